"""Rank 1 ends by an error between two logged metrics, while rank 0 reads: fail_between_logs.py PACKAGE."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from torch.utils.data import DataLoader

pl: Any = importlib.import_module(sys.argv[1])


class Module(pl.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.log("first", batch.mean(), sync_dist=True)
        if self.global_rank == 1 and index == 1:
            raise ArithmeticError("between two logs")
        self.log("second", batch.mean(), sync_dist=True)
        if self.global_rank == 0:
            float(self.trainer.callback_metrics["second"])
        return self.net(batch).mean()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


batches: Any = [torch.ones(2, 1) for _ in range(4)]
trainer = pl.Trainer(accelerator="cpu", strategy="smddp", max_epochs=1, logger=False, enable_checkpointing=False)
trainer.fit(Module(), DataLoader(batches, batch_size=None))
