"""What lines of progress cost a training step.

A step of the model takes a fraction of a millisecond, so that nothing hides the cost, and what counts is the thread's
own time, so that other programs of the machine do not. Beside it stands the time of what is added to each step, called
alone.
"""

import logging
import os
import time
import timeit
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.samples import Measured, Numbers, in_turn
from benchmarks.workers.training import trainer
from lightning_sagemaker.settings import METRICS, PROGRESS

ARMS = ("without", "without again", "with")
STEPS, WARM_UP, CALLS = 400, 20, 20_000


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
        """Change nothing that can be seen."""
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def fit(*, lines: bool) -> Numbers:
    """One fit, with a line each 30 s, the default, of which none is due within it, or with none."""
    os.environ[METRICS], os.environ[PROGRESS] = str(int(lines)), "30"
    model, fitted = Model(), trainer({"strategy": "auto", "plugin": "on"}, accelerator="cpu", devices=1, max_epochs=1)
    fitted.fit(model, DataLoader(torch.ones(STEPS, 1)))  # type: ignore[arg-type]
    numbers = {"step_thread_seconds": (model.times[1] - model.times[0]) / (STEPS - 1 - WARM_UP)}
    return numbers | ({"called alone, ns": 1e9 * _alone(fitted)} if lines else {})


def _alone(fitted: Trainer) -> float:
    """Seconds of what a step has more with lines, called alone while none is due."""
    connector: Any = fitted._logger_connector  # noqa: SLF001 - what is measured is there
    lines = vars(connector)["_lightning_sagemaker_lines"]
    lines.begin()
    lines._begins = False  # noqa: SLF001 - as after the first batch
    wrapped = type(connector).update_train_step_metrics
    original = dict(zip(wrapped.__code__.co_freevars, wrapped.__closure__, strict=True))["original"]
    update, original.cell_contents = original.cell_contents, lambda _connector: None
    try:
        times = timeit.repeat(lambda: wrapped(connector), number=CALLS, repeat=3)
    finally:
        original.cell_contents = update
    return (min(times) - min(timeit.repeat(lambda: None, number=CALLS, repeat=3))) / CALLS


def measure(launches: int = 50) -> Iterator[Measured]:
    """Fit, in turn with lines and without.

    Args:
        launches: Fits of each arm.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    fit(lines=False)  # imports, allocations
    arms = {arm: partial(fit, lines=arm == "with") for arm in ARMS}
    return in_turn("one weight, one metric", launches, arms, steps=STEPS)
