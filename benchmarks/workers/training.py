"""A training by a Trainer: step times, samples per second, exposed communication, memory, time to the first step.

The first epoch is measured as it is; in the second, gradients are not exchanged (DDP's ``no_sync``), so what a step
takes longer in the first is the communication that the computation does not hide.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import lightning as L  # noqa: N812 - its usual name
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch.utils.data import DataLoader

from benchmarks import models
from benchmarks.job import STARTED
from benchmarks.steps import slowest_rank, warm_up_length
from benchmarks.workers import results
from benchmarks.workers.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.samples import Numbers

BATCHES = 8  # made beforehand and used in turn: making data is not what is measured


class Training(L.LightningModule):
    """The network, its loss, and the clock."""

    def __init__(self, settings: Mapping[str, Any], clock: Clock) -> None:
        super().__init__()
        self.settings, self.clock = settings, clock
        self.net = models.workload(settings["model"], settings["size"]).make()
        self.synced: list[float] = []
        self.unsynced: list[float] = []
        self.first_step: float | None = None
        self._no_sync: Any = None

    def prepare_data(self) -> None:
        """Nothing; but being there makes stock Lightning guard it with a process group of its own."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Loss of a batch."""
        return models.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)

    def on_train_epoch_start(self) -> None:
        """From the second epoch on, no exchange of gradients."""
        if self.current_epoch:
            self._no_sync = self.trainer.strategy.model.no_sync()  # type: ignore[union-attr,operator]
            self._no_sync.__enter__()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:  # noqa: ANN401, ARG002 - Lightning's
        """A step is from here to here; half as many without exchange."""
        self.clock.mark()
        return -1 if self.current_epoch and batch_idx > self.settings["steps"] // 2 else None

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401
        """The first step is done when the device has done it."""
        if slowdown := self.settings.get("slowdown"):
            self.clock.prolong(slowdown)
        if self.first_step is None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.first_step = time.time()

    def on_train_epoch_end(self) -> None:
        """Keep the epoch's steps."""
        if self._no_sync is None:
            self.synced = self.clock.seconds()
        else:
            self.unsynced = self.clock.seconds()
            self._no_sync.__exit__(None, None, None)


def strategy(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a name or a strategy
    """The strategy by its name alone, as users give it, unless a setting is measured."""
    if "gradient_as_bucket_view" not in settings:
        return settings["strategy"]
    kind = DDPStrategy if settings["strategy"] == "ddp" else StrategyRegistry[settings["strategy"]]["strategy"]
    return kind(gradient_as_bucket_view=settings["gradient_as_bucket_view"])


def trainer(settings: Mapping[str, Any], **further: Any) -> L.Trainer:  # noqa: ANN401 - Trainer's
    """A Trainer that does nothing beside the training; stock is told the world, ours is not."""
    processes = settings["processes_per_host"]
    told = {"num_nodes": settings["world_size"] // processes, "devices": processes}
    return L.Trainer(
        strategy=strategy(settings),
        accelerator="auto",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        use_distributed_sampler=False,
        **(told if settings["plugin"] == "off" else {}),
        **further,
    )


def peak_memory() -> float:
    """Bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def main() -> None:
    """Train, and write down the launch."""
    planned, path = results.arguments()
    settings = planned.settings
    torch.manual_seed(settings["seed"])
    work = models.workload(settings["model"], settings["size"])
    made = [work.batch(work.samples) for _ in range(BATCHES)]
    steps = settings["steps"] + 1  # a step ends where the next one starts
    batches: Any = [made[index % BATCHES] for index in range(steps)]
    training = Training(settings, Clock())
    trainer(settings, max_epochs=2, precision=settings["precision"]).fit(training, DataLoader(batches, batch_size=None))
    if training.first_step is None:
        raise RuntimeError("no step was taken")
    mine = {
        "start_to_first_step_seconds": training.first_step - float(os.environ[STARTED]),
        "unsynced_step_p50_seconds": median(training.unsynced),
        "peak_memory_bytes": peak_memory(),
        "parameters": float(sum(each.numel() for each in training.parameters())),
        "process_groups": float(len(dist.distributed_c10d._world.pg_map)),  # noqa: SLF001 - to show that ours is one
    }

    def combine(steps: results.Steps, numbers: list[Numbers]) -> Numbers:
        worst = {name: max(rank[name] for rank in numbers) for name in mine}
        seconds = slowest_rank(steps)
        step = float(median(seconds[warm_up_length(seconds) :]))
        return worst | {
            "samples/s": settings["world_size"] * work.samples / step,
            "samples/s and device": work.samples / step,
            "exposed communication / step": 1 - worst["unsynced_step_p50_seconds"] / step,
        }

    results.write(planned, path, [(settings["model"], training.synced, mine)], combine)


if __name__ == "__main__":
    main()
