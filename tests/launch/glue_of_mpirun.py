"""Lines of docs/moving.md that copy the ranks of Open MPI, or leave them to Lightning: ``... FOLDER``, under mpirun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import DDPStrategy

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "limit_val_batches": 0,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
RANK = int(os.environ["OMPI_COMM_WORLD_RANK"])


def fit(**arguments: Any) -> list[Any]:
    torch.manual_seed(1)
    trainer, model = Trainer(**QUIET, **arguments), BoringModel()
    trainer.fit(model)
    assert [trainer.world_size, trainer.global_rank, trainer.num_training_batches] == [2, RANK, 32]
    return [trainer.local_rank, trainer.node_rank, model.layer.weight.tolist()]


def with_the_recipe() -> str:
    """AWS's, in an image without smddprun."""
    env = LightningEnvironment()
    env.world_size = lambda: int(os.environ["OMPI_COMM_WORLD_SIZE"])  # type: ignore[method-assign]
    env.global_rank = lambda: int(os.environ["RANK"])  # type: ignore[method-assign]
    strategy = DDPStrategy(cluster_environment=env, process_group_backend="gloo")
    try:
        Trainer(**QUIET, strategy=strategy, devices=2, num_nodes=1)
    except KeyError as error:
        return repr(error)
    return "none"


def main() -> None:
    found: dict[str, Any] = {"recipe": with_the_recipe()}
    for name in ("RANK", "LOCAL_RANK"):
        os.environ[name] = os.environ[f"OMPI_COMM_WORLD_{name}"]
    os.environ["WORLD_SIZE"] = os.environ["OMPI_COMM_WORLD_SIZE"]
    found["copied"] = fit(devices=2, num_nodes=1, strategy="ddp")
    environment = MPIEnvironment()
    found["chosen"] = fit(devices=2, num_nodes=1, strategy="ddp", plugins=[environment])
    Path(sys.argv[1], f"{RANK}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
