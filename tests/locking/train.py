"""A training whose data module fails, or is slow, in one process: ``train.py SCENE FOLDER``."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from lightning_sagemaker.locking import SerialSetup

scene, folder = sys.argv[1], Path(sys.argv[2])


class Data(SerialSetup, LightningDataModule):
    def prepare_data(self) -> None:
        (folder / f"prepared-{os.environ['RANK']}").touch()
        if scene == "fails":
            time.sleep(0.5)
            raise OSError(28, "No space left on device", "/opt/ml/data")

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        (folder / f"setup-{os.environ['RANK']}").touch()
        guard = folder / "inside"
        guard.touch(exist_ok=False)  # fails where two are inside
        time.sleep(0.3)
        guard.unlink()

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.zeros(8, 2)), batch_size=2)


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    if scene != "fails":  # a second hook would keep the others in Lightning's second barrier until the first dies

        def prepare_data(self) -> None:
            (folder / f"model-prepared-{os.environ['RANK']}").touch()

    def training_step(self, batch: Any, _: int) -> Any:
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


trainer = Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
try:
    trainer.fit(Model(), datamodule=Data())
    (folder / f"trained-{os.environ['RANK']}").touch()
except BaseException as error:
    (folder / f"error-{os.environ['RANK']}").write_text(f"{type(error).__name__}: {error}")
    until = time.monotonic() + 60
    while scene == "fails" and len(list(folder.glob("error-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)  # torchrun ends the other one when the first has ended: let both say why they did
    raise
