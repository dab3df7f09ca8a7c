"""What a Trainer or Fabric takes from a process environment: run once without and once with this package.

Reads looks from stdin, each an environment and how the Trainer is made, and writes what was seen to the file that it is
given. No process is started and no process group made, but for torch's own ``env://`` in a world of one.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import types
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

# Lightning asks mpi4py for a world, which starts MPI. Without mpirun the answer is known.
sys.modules["mpi4py"] = None  # type: ignore[assignment]
warnings.simplefilter("ignore")

import torch.distributed as dist  # noqa: E402 - as in a script, whose import of torch lets the package in

_LIGHTNING = importlib.util.find_spec("lightning") is not None
FABRIC = "lightning.fabric" if _LIGHTNING else "lightning_fabric"
PYTORCH = "lightning.pytorch" if _LIGHTNING else "pytorch_lightning"
CONNECTOR: Any = importlib.import_module(f"{FABRIC}.connector")._Connector
TRAINER: Any = importlib.import_module(PYTORCH).Trainer
RANK_ZERO: Any = importlib.import_module(f"{FABRIC}.utilities.rank_zero")
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}

Facts = dict[str, Any]


def _early_rank() -> Any:
    """Rank that ``rank_zero_only`` goes by before there is a Trainer."""
    decorator = types.SimpleNamespace(rank=RANK_ZERO._get_rank() or 0)
    if "lightning_sagemaker" in sys.modules:
        from lightning_sagemaker.patches.rank_zero import patch_rank_zero  # noqa: PLC0415 - not without the package

        module: Any = types.SimpleNamespace(rank_zero_only=decorator, _get_rank=RANK_ZERO._get_rank)
        patch_rank_zero(module)
    return decorator.rank


def _facts(made: Any) -> Facts:
    environment = getattr(made.strategy, "cluster_environment", None)
    if environment is None:
        return {"environment": None, "devices": 1, "hosts": 1, "world size": 1}
    strategy = made.strategy
    return {
        "environment": type(environment).__name__,
        "who starts processes": environment.creates_processes_externally,
        "devices": len(strategy.parallel_devices),
        "hosts": strategy.num_nodes,
        "world size": strategy.world_size,
        "rank": strategy.global_rank,
        "node rank": strategy.node_rank,
        "local rank": strategy.local_rank,
        "main address": environment.main_address,
        "main port": environment.main_port,
    }


def look(environ: dict[str, str], by: str, arguments: dict[str, Any]) -> Facts:
    """Facts, or the error of the constructor."""
    os.environ.clear()
    os.environ.update(environ)
    try:
        if by == "env://":
            return _torch()
        # Fabric's own constructor would launch at once where `fabric run` started the process.
        made = TRAINER(**QUIET, **arguments) if by == "Trainer" else CONNECTOR(**arguments)
        return _facts(made) | {"early rank": _early_rank()}
    except Exception as error:  # noqa: BLE001 - also a result
        return {"error": f"{type(error).__name__}: {error}"}


def _torch() -> Facts:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    facts = {"rank": dist.get_rank(), "world size": dist.get_world_size()}
    dist.destroy_process_group()
    return facts


if __name__ == "__main__":
    # A free port is another one each time.
    importlib.import_module(f"{FABRIC}.plugins.environments.lightning").find_free_network_port = lambda: 0  # type: ignore[attr-defined]
    Path(sys.argv[1]).write_text(json.dumps([look(**each) for each in json.load(sys.stdin)]))
