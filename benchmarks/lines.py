"""What lines of progress cost a training step: ``.venv/bin/python benchmarks/lines.py``; a minute on two cores.

Two Trainers of one process take turns, one with lines and one without, in pairs of equal fits; which is first
alternates. A step of the model takes a fraction of a millisecond, so that nothing hides the cost, and what counts is
the thread's own time, so that other programs of the machine do not. Beside it stands the time of what is added to each
step, called alone.
"""

from __future__ import annotations

import logging
import os
import random
import time
import timeit
import warnings
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_sagemaker.settings import METRICS, PROGRESS

PAIRS, STEPS, CALLS, RESAMPLES = 100, 400, 200_000, 4999
WARM_UP = 20  # steps


class Model(LightningModule):
    """One weight, and the times of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.times: list[float] = []

    def on_train_batch_start(self, _batch: Tensor, batch_idx: int) -> None:
        """Take the time where the measurement begins and ends."""
        if batch_idx in (WARM_UP, STEPS - 1):
            self.times.append(time.thread_time())

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        """Train, and log one metric."""
        loss: Tensor = self.net(batch).sum()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use a learning rate that changes nothing visible."""
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def trainer(*, lines: bool) -> Trainer:
    """A Trainer that prints a line each 30 s, the default, or none."""
    os.environ[METRICS], os.environ[PROGRESS] = str(int(lines)), "30"
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(accelerator="cpu", devices=1, max_epochs=1, **quiet)


def seconds_per_step(*, lines: bool) -> float:
    """Seconds of a step in a fit of its own."""
    model = Model()
    trainer(lines=lines).fit(model, DataLoader(torch.ones(STEPS, 1)))  # type: ignore[arg-type]
    return (model.times[1] - model.times[0]) / (STEPS - 1 - WARM_UP)


def seconds_alone() -> float:
    """Seconds of what a step has more with lines, called alone while none is due."""
    made = trainer(lines=True)
    connector: Any = made._logger_connector  # noqa: SLF001 - what is measured is there
    lines = vars(connector)["_lightning_sagemaker_lines"]
    lines.begin()
    lines._begins = False  # noqa: SLF001 - as after the first batch
    wrapped = type(connector).update_train_step_metrics
    update, wrapped.__closure__[-1].cell_contents = wrapped.__wrapped__, lambda _connector: None
    try:
        times = timeit.repeat(lambda: wrapped(connector), number=CALLS, repeat=7)
    finally:
        wrapped.__closure__[-1].cell_contents = update
    nothing = timeit.repeat(lambda: None, number=CALLS, repeat=7)
    return (min(times) - min(nothing)) / CALLS


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seconds_per_step(lines=False)  # imports, allocations
    pairs = []
    for number in range(PAIRS):
        first = bool(number % 2)
        one, other = seconds_per_step(lines=first), seconds_per_step(lines=not first)
        pairs.append((one, other) if first else (other, one))
    ratios = [with_lines / without for with_lines, without in pairs]
    resampled = sorted(median(random.choices(ratios, k=PAIRS)) for _ in range(RESAMPLES))  # noqa: S311 - no secret
    low, high = resampled[int(0.025 * RESAMPLES)], resampled[int(0.975 * RESAMPLES)]
    steps = [median(column) * 1e6 for column in zip(*pairs, strict=True)]
    print(
        f"{PAIRS} pairs of fits of {STEPS} steps; median step {steps[0]:.1f} us with lines, {steps[1]:.1f} us without"
    )
    print(f"ratio {median(ratios):.4f} [{low:.4f}, {high:.4f}]")
    print(f"called alone: {seconds_alone() * 1e9:.0f} ns for each step")


if __name__ == "__main__":
    main()
