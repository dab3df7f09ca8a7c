"""Imports torch, Lightning and SMDDP, and tells what came of it: run in a process of its own, as a program's text.

What is imported here may raise anything, end the process or hang; the doctor only loses a line by that. It must not
import this package before torch, since whether torch loads it is one of the questions.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any


def _torch() -> dict[str, Any]:
    import torch  # noqa: PLC0415

    cuda = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "gpus": torch.cuda.device_count(),
        "autoloads": tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5),
        "hooked": any(type(finder).__module__ == "lightning_sagemaker._autoload" for finder in sys.meta_path),
    }


def _smddp() -> dict[str, Any]:
    from lightning_sagemaker.smddp.probe import probe  # noqa: PLC0415

    found = probe()
    return {"version": found.version, "problem": found.problem}


def _module(name: str) -> dict[str, Any]:
    return {"version": getattr(import_module(name), "__version__", None)}


def _main() -> None:
    # Libraries print while they are imported; only what follows goes to the doctor.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in ("torch", "lightning.pytorch", "pytorch_lightning", "smddp"):
        print(json.dumps([name, None]), file=answers, flush=True)  # begun, perhaps never finished
        answer: dict[str, Any]
        try:
            answer = {"torch": _torch, "smddp": _smddp}[name]() if name in ("torch", "smddp") else _module(name)
        except ModuleNotFoundError as error:
            absent = error.name == name.partition(".")[0]
            answer = {"absent": True} if absent else {"problem": f"{type(error).__name__}: {error}"}
        except BaseException as error:  # noqa: BLE001 - also SystemExit
            answer = {"problem": f"{type(error).__name__}: {error}"}
        print(json.dumps([name, answer]), file=answers, flush=True)


if __name__ == "__main__":
    _main()
