"""Imports torch, Lightning and SMDDP, makes a Trainer and a Fabric, and reports the results.

Run in a process of its own, as a program's text.

What is imported here may raise anything, end the process or hang; the doctor only loses a line by that. It must not
import this package before torch, since whether torch loads it is one of the questions.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

_FABRICS = {"lightning.pytorch": "lightning.fabric", "pytorch_lightning": "lightning_fabric"}
_MPI = "OMPI_COMM_WORLD_SIZE"


def _torch() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "gpus": torch.cuda.device_count(),
        "autoloads": tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5),
        "hooked": any(type(finder).__module__ == "lightning_sagemaker._autoload" for finder in sys.meta_path),
    }


def tell(name: str, distributions: list[str]) -> dict[str, Any]:
    """Result of one import or construction: ``absent``, ``problem``, ``unknown`` (why nobody asked), or facts.

    Modules of Lightning that can be imported are added to ``distributions``.
    """
    try:
        return _tell(name, distributions)
    except BaseException as error:  # noqa: BLE001 - also SystemExit
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            return {"absent": True}
        return {"problem": f"{type(error).__name__}: {error}"}


def _tell(name: str, distributions: list[str]) -> dict[str, Any]:
    if name == "torch":
        return _torch()
    if name == "smddp":
        from lightning_sagemaker.smddp.availability import availability

        found = availability()
        return {"version": found.version, "problem": found.problem}
    if name in _FABRICS:
        version = getattr(import_module(name), "__version__", None)
        distributions.append(name)
        return {"version": version}
    if _MPI in os.environ:  # to import it starts MPI, a second time for this rank: what that does to the job is unknown
        sys.modules["mpi4py"] = None  # type: ignore[assignment]
    if not distributions:
        return {"unknown": "Lightning cannot be imported"}
    from lightning_sagemaker.patches import constructed

    module = distributions[0] if name == "trainer" else _FABRICS[distributions[0]]
    facts = getattr(constructed, f"{name}_facts")(import_module(module))
    if _MPI in os.environ and facts["cluster_environment"] == "LightningEnvironment":
        return {"unknown": "Lightning would ask MPI, which a second process of this rank must not start"}
    return {"facts": facts}


def _main() -> None:
    # Libraries print while they are imported; only what follows goes to the doctor.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    distributions: list[str] = []
    for name in ("torch", *_FABRICS, "smddp", "trainer", "fabric"):
        print(json.dumps([name, None]), file=answers, flush=True)  # begun, perhaps never finished
        print(json.dumps([name, tell(name, distributions)]), file=answers, flush=True)


if __name__ == "__main__":
    _main()
