"""Makes a Trainer in each of many environments: once as the doctor does, once as a script does.

A process for each, forked from one that has imported Lightning. What they say is printed as one JSON list.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytorch_lightning

from lightning_sagemaker.doctor.imports import tell

if TYPE_CHECKING:
    from collections.abc import Callable


def by_doctor() -> dict[str, Any]:
    return {name: tell(name, ["pytorch_lightning"]) for name in ("trainer", "fabric")}


def by_script() -> dict[str, Any]:
    try:
        trainer = pytorch_lightning.Trainer()
        if hasattr(trainer.strategy, "set_world_ranks"):  # what `fit` does first
            trainer.strategy.set_world_ranks()
    except Exception as error:  # noqa: BLE001 - whatever it is, the doctor shall say it
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "num_nodes": trainer.num_nodes,
        "devices": trainer.num_devices,
        "world_size": trainer.world_size,
        "strategy": type(trainer.strategy).__name__,
    }


def in_child(environ: dict[str, str], function: Callable[[], dict[str, Any]]) -> Any:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.environ.clear()
        os.environ.update(environ)
        answer = json.dumps(function())
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.wait()
    return json.loads(answer)


if __name__ == "__main__":
    environments = json.load(sys.stdin)
    json.dump([[in_child(environ, by_doctor), in_child(environ, by_script)] for environ in environments], sys.stdout)
