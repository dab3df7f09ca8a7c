"""A training by a Trainer: step times, samples per second, exposed communication, memory, time to the first step.

The first epoch is measured as it is; in the second, gradients are not exchanged (DDP's ``no_sync``), so what a step
takes longer in the first is the communication that the computation does not hide.
"""

import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import lightning as L  # noqa: N812 - its usual name
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from benchmarks import models
from benchmarks.job import STARTED
from benchmarks.samples import Numbers
from benchmarks.steps import after_warm_up
from benchmarks.workers.clock import Clock

BATCHES = 8  # made beforehand and used in turn: making data is not what is measured


class Training(L.LightningModule):
    """A network with a clock: a first epoch with the exchange of gradients, a second without."""

    def __init__(self, net: torch.nn.Module, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.net, self.settings, self.clock = net, settings, Clock()
        self.seconds: list[list[float]] = []  # of the steps of each epoch
        self.first_step: float | None = None

    def prepare_data(self) -> None:
        """Nothing; but being there makes stock Lightning guard it with a process group of its own."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Loss of a batch."""
        return models.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)

    def on_train_epoch_start(self) -> None:
        """From the second epoch on, no exchange of gradients: nothing is trained after it, so it stays so."""
        if self.current_epoch:
            self.no_sync: Any = self.trainer.strategy.model.no_sync()  # type: ignore[union-attr,operator]
            self.no_sync.__enter__()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:  # noqa: ANN401, ARG002 - Lightning's
        """A step is from here to here; half as many without exchange."""
        self.clock.mark()
        return -1 if self.current_epoch and batch_idx > self.settings["steps"] // 2 else None

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401 - the same
        """The first step is done when the device has done it."""
        if slowdown := self.settings.get("slowdown"):
            self.clock.prolong(slowdown)
        if self.first_step is None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.first_step = time.time()

    def on_train_epoch_end(self) -> None:
        """Keep the epoch's steps."""
        self.seconds.append(self.clock.seconds())


def trainer(settings: Mapping[str, Any], **further: Any) -> L.Trainer:  # noqa: ANN401 - Trainer's
    """A Trainer that does nothing beside the training; stock is told the world, ours is not."""
    if settings["plugin"] == "off":
        processes = settings["processes_per_host"]
        further |= {"num_nodes": settings["world_size"] // processes, "devices": processes}
    views = "gradient_as_bucket_view" in settings  # of stock alone; else a name, as users give it
    return L.Trainer(
        strategy=DDPStrategy(gradient_as_bucket_view=True) if views else settings["strategy"],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        use_distributed_sampler=False,
        **further,
    )


def measure(settings: Mapping[str, Any]) -> list[tuple[str, list[float], Numbers]]:
    """One training."""
    torch.manual_seed(settings["seed"])
    make, samples = models.MODELS[settings["model"], settings["size"]]
    net = make()
    made = [net.batch(samples) for _ in range(BATCHES)]
    batches: Any = [
        made[index % BATCHES] for index in range(settings["steps"] + 1)
    ]  # a step ends where the next starts
    training = Training(net, settings)
    trainer(settings, max_epochs=2, precision=settings["precision"]).fit(training, DataLoader(batches, batch_size=None))
    if training.first_step is None:
        raise RuntimeError("no step was taken")
    synced, unsynced = training.seconds
    of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    numbers = {
        "start_to_first_step_seconds": training.first_step - float(os.environ[STARTED]),
        "unsynced_step_p50_seconds": median(unsynced),
        "peak_memory_bytes": float(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else of_process),
        "parameters": float(sum(each.numel() for each in training.parameters())),
        "process_groups": float(len(dist.distributed_c10d._world.pg_map)),  # noqa: SLF001 - to show that ours is one
        "samples": float(samples),
    }
    return [(settings["model"], synced, numbers)]


def combine(settings: Mapping[str, Any], steps: Sequence[Sequence[float]], numbers: Sequence[Numbers]) -> Numbers:
    """The worst rank's, and what follows from the median step."""
    worst = {name: max(rank[name] for rank in numbers) for name in numbers[0]}
    samples, step = worst.pop("samples"), float(median(after_warm_up(steps)))
    return worst | {
        "samples/s": settings["world_size"] * samples / step,
        "samples/s and device": samples / step,
        "exposed communication / step": 1 - worst["unsynced_step_p50_seconds"] / step,
    }
