"""``LightningCLI``."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI

from tests.beside_stock.model import Model, fitted, loader, world
from tests.beside_stock.registry import situation


class Data(LightningDataModule):
    """Data with an argument."""

    def __init__(self, rows: int = 32) -> None:
        super().__init__()
        self.rows = rows

    def train_dataloader(self) -> Any:
        return loader(self.rows)

    def val_dataloader(self) -> Any:
        return loader(8)

    def test_dataloader(self) -> Any:
        return loader(8)


def _run(*arguments: str) -> Any:
    plain = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]
    given = [f"--trainer.{name}={value}" for name, value in world().items()]
    return LightningCLI(Model, Data, args=[arguments[0], *plain, *given, *arguments[1:]], seed_everything_default=3)


@situation()
def command_line(_start: int) -> Any:
    """Arguments, and the configuration that is left beside the logs."""
    cli = _run(
        "fit",
        "--data.rows=16",
        "--model.lr=0.01",
        "--trainer.callbacks=EarlyStopping",
        "--trainer.callbacks.monitor=val",
    )
    return fitted(cli.model, cli.trainer) | {"seed": torch.initial_seed()}


@situation("two")
def command_line_on_two_processes(_start: int) -> Any:
    cli = _run("fit", "--trainer.logger=false", "--trainer.enable_checkpointing=false")
    return fitted(cli.model, cli.trainer)


@situation()
def command_line_again_in_the_same_folder(_start: int) -> Any:
    """Each run has its version; a configuration that lies there already is an error of Lightning's own."""
    found = [fitted((cli := _run("fit")).model, cli.trainer) for _ in range(2)]
    tested = _run("test", "--trainer.logger=false")
    return [*found, fitted(tested.model, tested.trainer)]
