"""What a job has: what tests need of it, as their skip reasons say it, and what its reports begin with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranks import Ranks

_SMDDPRUN = ("SMDATAPARALLEL_USE_HOMOGENEOUS", "SMDATAPARALLEL_USE_SINGLENODE")  # of the toolkit's command with it
_DISTRIBUTIONS = ("lightning-sagemaker", "torch", "mpi4py", "sagemaker-training", "smdistributed-dataparallel")


def _has_smddp() -> bool:
    with suppress(ImportError, ValueError):  # a half-removed package
        return importlib.util.find_spec("smdistributed.dataparallel") is not None
    return False


# By the argument of the marker `needs`: whether this process has it.
NEEDS: dict[str, Callable[[Ranks], bool]] = {
    "a GPU": lambda _: torch.cuda.is_available(),
    "SMDDP": lambda _: _has_smddp(),
    "smddprun": lambda _: _has_smddp() and any(name in os.environ for name in _SMDDPRUN),
    "mpirun": lambda ranks: ranks.job.launcher == "mpirun",
    "another launcher than torchrun": lambda ranks: ranks.job.launcher != "torchrun",
    "two hosts": lambda ranks: ranks.job.num_nodes > 1 and ranks.problem is None,
    "real hosts": lambda _: "LIGHTNING_SAGEMAKER_SIMULATION" not in os.environ,
    "torch 2.3": lambda _: "device_id" in inspect.signature(dist.init_process_group).parameters,
}


def facts(ranks: Ranks) -> dict[str, str]:
    """The job and its image, by name."""
    job = ranks.job
    return {
        "job": f"{job.num_nodes} x {job.instance_type}, {ranks.size} ranks, launcher {job.launcher}, SDK {job.sdk}",
        "simulated": "no" if NEEDS["real hosts"](ranks) else "yes: this says nothing of AWS",
        "Python": platform.python_version(),
        **{name: _version(name) for name in _DISTRIBUTIONS},
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else "none",
        "EFA": ", ".join(efa_devices()) or "none",
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def efa_devices() -> list[str]:
    """Names of this host's EFA devices."""
    return sorted(path.name for path in Path("/sys/class/infiniband").glob("*"))
