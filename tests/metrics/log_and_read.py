"""Trainings that log on all ranks and read on some: run as a job, they write to OUT/RANK.json what they found.

log_and_read.py PACKAGE OUT STRATEGY ...
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

package, out, *strategies = sys.argv[1:]
pl: Any = importlib.import_module(package)
READERS: dict[str, Any] = {"none": lambda _: False, "rank 0": lambda rank: rank == 0, "all": lambda _: True}
VIEWS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")


class Model(pl.LightningModule):  # type: ignore[misc]
    """Logs in every hook that may log, and reads in the middle of its steps."""

    def __init__(self, *, manual: bool, reader: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Linear(8, 1)
        self.automatic_optimization = not manual
        self.reads, self.read = READERS[reader], list[Any]()

    def look(self) -> None:
        if self.reads(self.global_rank):
            self.read += [exact(getattr(self.trainer, view)) for view in VIEWS]

    def value(self) -> Any:
        """One that depends on the rank, and whose sums are rounded."""
        return self.net.weight.detach()[0, 0] / 3 + (self.global_rank + 1) / 7 + self.global_step

    def training_step(self, batch: list[torch.Tensor], index: int) -> Any:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        for kind in ("mean", "sum", "min", "max"):
            self.log(f"step {kind}", self.value(), sync_dist=True, reduce_fx=kind, prog_bar=True)
            self.log(f"both {kind}", loss, sync_dist=True, reduce_fx=kind, on_step=True, on_epoch=True)
        self.look()
        self.log("double", self.value().double(), sync_dist=True)
        self.log("integer", torch.tensor(index + self.global_rank), sync_dist=True)
        self.log("bool", torch.tensor(self.global_rank == 0), sync_dist=True)
        self.log("graph", loss, sync_dist=True, enable_graph=True)
        self.log("epoch", loss, sync_dist=True, on_step=False, on_epoch=True)
        with torch.inference_mode():
            self.log("inference", self.net(batch[0]).mean(), sync_dist=True)
            self.look()
            self.log("inference, read later", self.net(batch[0]).mean(), sync_dist=True)
        if self.global_step == 0 and self.automatic_optimization and self.reads is READERS["none"]:
            for _ in range(300):  # more than may wait at a time; one training shows it
                self.log("again", self.value(), sync_dist=True)
        self.by_hand = self.trainer.strategy.reduce(self.value(), reduce_op="sum")
        self.log("by hand", self.by_hand)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.log("between", loss, sync_dist=True)
        optimizer.step()
        self.look()
        return None

    def on_train_batch_start(self, *_: Any) -> None:
        self.log("batch start", self.value(), sync_dist=True, on_step=True)

    def on_before_optimizer_step(self, *_: Any) -> None:
        gradient: Any = self.net.weight.grad
        self.log("gradient", gradient[0, 0], sync_dist=True, on_step=True)
        self.look()

    def on_train_batch_end(self, *_: Any) -> None:
        self.log("batch end", self.value(), sync_dist=True, on_step=True)
        self.look()

    def on_train_epoch_end(self) -> None:
        self.log("epoch end", self.value(), sync_dist=True)

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        stage = "test" if self.trainer.testing else "validation"
        for kind in ("mean", "min"):
            self.log(f"{stage} {kind}", self.net(batch[0]).mean(), sync_dist=True, reduce_fx=kind)
            self.log(f"{stage} both {kind}", self.value(), sync_dist=True, reduce_fx=kind, on_step=True, on_epoch=True)
        # Read by all: an epoch's metrics are computed by reductions when they are read.
        self.log(f"{stage} step", self.value(), sync_dist=True, on_step=True, on_epoch=False)
        self.look()

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.05)


class Failing(Model):
    """Ends by an error on all ranks, after it has logged."""

    def training_step(self, *_: Any) -> None:
        self.log("before the error", self.value(), sync_dist=True)
        raise ArithmeticError


def exact(metrics: Any) -> dict[str, str]:
    return {name: float(value).hex() for name, value in metrics.items()}


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 8, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 2)


def make_trainer(strategy: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", strategy=strategy, max_epochs=2, limit_train_batches=2, limit_val_batches=2,
        limit_test_batches=2, log_every_n_steps=1, enable_checkpointing=False, **quiet,
    )  # fmt: skip


def train(strategy: str, *, manual: bool, reader: str) -> dict[str, Any]:
    model, trainer = Model(manual=manual, reader=reader), make_trainer(strategy)
    trainer.fit(model, data(), data())
    fitted = exact(trainer.callback_metrics)
    trainer.test(model, data(), verbose=False)
    weights = [float(value).hex() for value in model.net.weight[0]]
    return {"fitted": fitted, "tested": exact(trainer.callback_metrics), "read": model.read, "weights": weights}


def fail(strategy: str) -> dict[str, Any]:
    trainer = make_trainer(strategy)
    try:
        trainer.fit(Failing(manual=False, reader="none"), data())
    except ArithmeticError:
        trainer.state.stage = "train"  # where a script's own handler, or a callback's `on_exception`, reads
        return {"read": exact(trainer.callback_metrics)}
    raise AssertionError


def own_reduction(strategy: str) -> dict[str, Any]:
    """A subclass that reduces in its own way is asked."""

    def reduce(_: Any, tensor: Any, *__: Any, **___: Any) -> Any:
        return tensor * 0 + 42 if isinstance(tensor, torch.Tensor) else tensor

    kind = type(make_trainer(strategy).strategy)
    trainer = make_trainer(type("Own", (kind,), {"reduce": reduce})())
    trainer.fit(Model(manual=True, reader="none"), data())
    return {"step mean": float(trainer.callback_metrics["step mean"])}


found: dict[str, Any] = {}
for strategy in strategies:
    found[strategy] = {
        **{
            f"{'manual' if manual else 'automatic'}, read by {reader}": train(strategy, manual=manual, reader=reader)
            for manual, reader in itertools.product((True, False), READERS)
        },
        "failed": fail(strategy),
        "own": own_reduction(strategy),
    }
Path(out, f"{dist.get_rank()}.json").write_text(json.dumps({"backend": dist.get_backend(), "found": found}))
