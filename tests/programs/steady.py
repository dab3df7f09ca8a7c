"""Trains for as long as it is told to, writes down each process and how far it came: something to break."""

from __future__ import annotations

import argparse
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, TensorDataset


class Model(LightningModule):
    def __init__(self, folder: Path, pause: float, fail: tuple[int, int], failure: BaseException) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)
        self.folder = folder
        self.pause = pause
        self.fail, self.failure = fail, failure

    def on_train_start(self) -> None:
        (self.folder / f"rank-{self.global_rank}").write_text(str(os.getpid()))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        (self.folder / f"step-{self.global_rank}").write_text(str(self.global_step))
        time.sleep(self.pause)
        if (self.global_rank, batch_idx) == self.fail:
            raise self.failure
        loss: torch.Tensor = self.layer(batch[0]).pow(2).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that each step takes")
    parser.add_argument("--fail", type=int, nargs=2, default=(-1, -1), metavar=("RANK", "BATCH"))
    parser.add_argument("--exit", action="store_true", help="fail by `sys.exit`")
    parser.add_argument(
        "--linger", type=float, default=0.0, help="seconds that rank 0 alone goes on for after training"
    )
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds of the process group's time limit")
    parser.add_argument("--start-method", default="popen", help="how Lightning starts processes, as DDPStrategy's")
    parser.add_argument(
        "--kill-early", type=int, default=-1, metavar="RANK", help="as soon as its process group is made"
    )
    given = parser.parse_args()
    make_group: Any = torch.distributed.init_process_group

    def make_group_and_die(*arguments: Any, rank: int, **options: Any) -> None:
        make_group(*arguments, rank=rank, **options)
        if rank == given.kill_early:
            os.kill(os.getpid(), signal.SIGKILL)

    vars(torch.distributed)["init_process_group"] = make_group_and_die
    data = DataLoader(TensorDataset(torch.ones(32 * 4096, 8)), batch_size=4)
    trainer = Trainer(
        accelerator="cpu",
        devices="auto" if given.start_method == "popen" else 2,
        strategy=DDPStrategy(timeout=timedelta(seconds=given.timeout), start_method=given.start_method),
        max_steps=given.steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    failure = (SystemExit if given.exit else KeyError)("the column 'age' is missing")
    trainer.fit(Model(given.folder, given.pause, tuple(given.fail), failure), data)
    (given.folder / f"end-{trainer.global_rank}").write_text(str(trainer.global_step))
    if trainer.is_global_zero:
        time.sleep(given.linger)
    elif given.linger:
        os._exit(0)  # as scripts do that have met threads which keep a process: no exit handler runs


if __name__ == "__main__":
    main()
