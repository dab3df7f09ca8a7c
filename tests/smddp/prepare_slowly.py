"""prepare_data takes longer than the process group's time limit, or fails, on the rank that prepares."""

import argparse
import importlib
import time
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_sagemaker.smddp.strategies import strategy_class

parser = argparse.ArgumentParser()
parser.add_argument("--package", required=True)
parser.add_argument("--seconds", type=float, default=0)
parser.add_argument("--fail", action="store_true")
arguments = parser.parse_args()
pl = importlib.import_module(arguments.package)


class Model(pl.LightningModule):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def prepare_data(self) -> None:
        time.sleep(arguments.seconds)
        if arguments.fail:
            raise OSError("the bucket is not readable")

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.ones(8, 2)))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return self.layer(batch[0]).sum()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


strategy = strategy_class(arguments.package, "replicated")(timeout=timedelta(seconds=4))
trainer = pl.Trainer(
    accelerator="cpu",
    strategy=strategy,
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
try:
    trainer.fit(Model())
except Exception as error:
    print(f"CAUGHT {type(error).__name__}: {error}", flush=True)
    raise
print("TRAINED", flush=True)
