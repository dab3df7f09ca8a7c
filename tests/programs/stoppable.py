"""Trains until it is told to stop, on data that are all the same, so that a resumed run can be compared.

Each rank writes to FOLDER: its process id to pid-RANK once it trains or tests, the step at which an exception ended the
training to stopped-RANK, that of the checkpoint to saved-RANK, its weights to weights-RANK, the step of its loggers
to logged-RANK.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset


def make_model(pl: Any, given: argparse.Namespace) -> Any:
    class Model(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(8, 1)

        def begin(self) -> None:
            pid = given.folder / f"pid-{self.global_rank}"
            pid.with_suffix(".new").write_text(str(os.getpid()))
            pid.with_suffix(".new").rename(pid)

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            if batch_idx == 1:
                self.begin()
            time.sleep(given.pause * (1 + self.global_rank))
            return self.layer(batch[0]).pow(2).mean()  # type: ignore[no-any-return]

        def validation_step(self, batch: list[torch.Tensor]) -> None:
            self.log("loss", self.layer(batch[0]).mean(), sync_dist=True)

        def on_validation_epoch_end(self) -> None:
            if given.validated and not self.trainer.sanity_checking:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(2)  # until all know of it

        def test_step(self, batch: list[torch.Tensor]) -> None:
            self.begin()
            time.sleep(given.pause * len(batch))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    return Model()


def make_callback(pl: Any, given: argparse.Namespace) -> Any:
    class Witness(pl.Callback):  # type: ignore[misc]
        def on_exception(self, trainer: Any, _module: Any, _error: BaseException) -> None:
            (given.folder / f"stopped-{trainer.global_rank}").write_text(str(trainer.global_step))

        def on_save_checkpoint(self, trainer: Any, _module: Any, _checkpoint: Any) -> None:
            (given.folder / f"saved-{trainer.global_rank}").write_text(str(trainer.global_step))

    return Witness()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--package", default="lightning.pytorch")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--stage", choices=("fit", "test"), default="fit")
    parser.add_argument("--batches", type=int, default=8, help="batches of an epoch")
    parser.add_argument("--steps", type=int, default=100_000, help="optimizer steps in all")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of a batch, times rank + 1")
    parser.add_argument("--validated", action="store_true", help="send SIGTERM to this process when it has validated")
    parser.add_argument("--resume", help="checkpoint to go on from")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--handler", action="store_true", help="handle SIGTERM as a user's script may do")
    given = parser.parse_args()
    pl = importlib.import_module(given.package)
    if given.handler:
        signal.signal(signal.SIGTERM, lambda *_: (given.folder / f"handled-{os.getpid()}").write_text(""))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=given.devices if given.devices == "auto" else int(given.devices),
        strategy=given.strategy,
        callbacks=make_callback(pl, given),
        max_steps=given.steps,
        max_epochs=-1,
        limit_train_batches=given.batches,
        limit_val_batches=2,
        accumulate_grad_batches=given.accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(TensorDataset(torch.ones(4096, 8)), batch_size=4)
    model = make_model(pl, given)
    if given.stage == "test":
        trainer.test(model, data, verbose=False)
    else:
        trainer.fit(model, data, data, ckpt_path=given.resume)
    torch.save(model.state_dict(), given.folder / f"weights-{trainer.global_rank}")
    logged = trainer.fit_loop.epoch_loop._batches_that_stepped
    (given.folder / f"logged-{trainer.global_rank}").write_text(str(logged))


if __name__ == "__main__":
    main()
