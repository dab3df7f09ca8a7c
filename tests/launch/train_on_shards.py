"""Trains and predicts on channels; each process writes which rows it saw to the folder in its argument."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler

DEVICES = int(os.environ["SM_NUM_GPUS"])
HOST = os.environ["SM_CURRENT_HOST"]


class Rows(Dataset[torch.Tensor]):
    """A row for each file of a channel; its number is the file's content."""

    def __init__(self, channel: str) -> None:
        folder = Path(os.environ[f"SM_CHANNEL_{channel.upper()}"])
        self.rows = [int(path.read_text()) for path in sorted(folder.rglob("*.txt"))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(self.rows[index])])


class Model(LightningModule):
    """Remembers the rows that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[int] = []

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        self.seen += batch[:, 0].int().tolist()
        loss: torch.Tensor = self.layer(batch).mean()
        return loss

    def predict_step(self, batch: torch.Tensor, _: int) -> None:
        self.seen += batch[:, 0].int().tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-6)


def write(name: str, model: Model, trainer: Trainer) -> None:
    path = Path(sys.argv[1], f"{name}-{HOST}-{trainer.local_rank}.json")
    path.write_text(json.dumps({"host": HOST, "strategy": type(trainer.strategy).__name__, "seen": sorted(model.seen)}))


def run(name: str, channel: str, *, of_this_host: bool = False, predict: bool = False, **arguments: Any) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    data, model = Rows(channel), Model()
    sampler: DistributedSampler[torch.Tensor] | None = None
    if of_this_host:
        sampler = DistributedSampler(data, num_replicas=trainer.num_devices, rank=trainer.local_rank)
    loader = DataLoader(data, batch_size=1, sampler=sampler)
    if predict:
        trainer.predict(model, loader, return_predictions=False)
    else:
        trainer.fit(model, loader)
    write(name, model, trainer)


if len(sys.argv) > 2:  # each host by itself, on all its devices
    if "LOCAL_RANK" not in os.environ:  # not in the processes that Lightning starts
        for variable in ("MASTER_ADDR", "MASTER_PORT"):  # of the job's first host
            os.environ.pop(variable, None)
    run("alone", "part", predict=True, plugins=[LightningEnvironment()], devices=DEVICES, num_nodes=1)
else:
    run("default", "part")
    run("replicated", "full")
    run("sampler", "part", of_this_host=True, use_distributed_sampler=False)
    run("alone", "part", predict=True, plugins=[LightningEnvironment()], devices=1, num_nodes=1)
