"""Trains a little on two hosts, and stays in a step until somebody has tried what can be said to its ports."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--folder", type=Path, required=True)
folder = parser.parse_args().folder
hosts = json.loads(os.environ["SM_HOSTS"])
os.environ["NODE_RANK"] = str(hosts.index(os.environ["SM_CURRENT_HOST"]))  # as scripts have it for stock Lightning

import torch  # noqa: E402
from lightning.pytorch import LightningModule, Trainer, seed_everything  # noqa: E402


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        if batch_idx == 3:
            (folder / f"rank-{self.global_rank}").write_text(f"{os.getpid()} {os.environ['MASTER_PORT']}")
            while self.global_rank == 0 and not (folder / "tried").exists():
                time.sleep(0.1)
        loss: torch.Tensor = (self.layer(batch[0]) - 1).pow(2).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


seed_everything(1, verbose=False)
model = Model()
trainer = Trainer(
    accelerator="cpu",
    devices=1,
    num_nodes=len(hosts),
    strategy="ddp",
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(128, 8)), batch_size=4))
torch.save(model.state_dict(), folder / f"weights-{trainer.global_rank}")
trainer.strategy.barrier()
