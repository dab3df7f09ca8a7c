"""What is logged, how it is reduced, and who reads it when."""

from __future__ import annotations

from typing import Any

import torch
import torchmetrics
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import CSVLogger

from tests.beside_stock.model import Model, fitted, loader, logged, smddp, trainer
from tests.beside_stock.registry import situation


class SumOfBig(Model):
    """A sum over all ranks, and a collective of the module's own when the epoch ends."""

    gathers = False

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[torch.Tensor] = []
        self.ends: list[Any] = []

    def training_step(self, batch: list[torch.Tensor], _index: int) -> Any:
        loss = self.loss(batch)
        self.losses.append(loss.detach())
        self.log("n_big", (loss > 3).float(), on_step=False, on_epoch=True, sync_dist=True, reduce_fx="sum")
        return loss

    def on_train_epoch_end(self) -> None:
        mean = torch.stack(self.losses).mean()
        self.losses.clear()
        found = self.all_gather(mean) if self.gathers else self.trainer.strategy.reduce(mean)
        self.ends.append(torch.as_tensor(found).tolist())


def _sums(*, gathers: bool, strategy: str) -> Any:
    t, m = trainer(strategy=strategy), SumOfBig()
    m.gathers = gathers
    t.fit(m, loader())
    return fitted(m, t) | {"ends": m.ends}


@situation("two")
def sum_and_a_reduction_at_epoch_end(_start: int) -> Any:
    return _sums(gathers=False, strategy="ddp")


@situation("two", nightly=True)
def sum_and_a_reduction_at_epoch_end_with_smddp(_start: int) -> Any:
    return _sums(gathers=False, strategy=smddp())


@situation("two")
def sum_and_a_gathering_at_epoch_end(_start: int) -> Any:
    return _sums(gathers=True, strategy="ddp")


@situation("two")
def metric_that_is_no_number(_start: int) -> Any:
    """A confusion matrix, logged for callbacks only (pytorch-lightning#19604 is about one)."""

    class Confused(Model):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = torchmetrics.classification.BinaryConfusionMatrix()

        def validation_step(self, batch: list[torch.Tensor], _index: int) -> Any:
            self.matrix((self.net(batch[0]) > 0).int().squeeze(1), (batch[1] > 0).int().squeeze(1))
            self.log("matrix", self.matrix, logger=False)

    t, m = trainer(), Confused()
    t.fit(m, loader(), loader())
    return fitted(m, t)


class Reads(Model):
    """Rank zero alone looks at the metrics in the middle of a step."""

    def __init__(self, *, manual: bool, what: str) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.what = what
        self.read: list[Any] = []

    def training_step(self, batch: list[torch.Tensor], index: int) -> Any:
        loss = self.loss(batch)
        for number in range(4):
            self.log(f"m{number}", loss * number, sync_dist=True, prog_bar=True)
        if self.trainer.is_global_zero and index > 0:
            self.read.append(logged(getattr(self.trainer, self.what))["m1"])
        self.log("later", loss, sync_dist=True, on_step=True, on_epoch=True)
        if self.automatic_optimization:
            return loss
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return None


def _read(*, manual: bool, strategy: str, what: str = "callback_metrics") -> Any:
    t, m = trainer(strategy=strategy), Reads(manual=manual, what=what)
    t.fit(m, loader())
    return fitted(m, t) | {"read": m.read}


@situation("two")
def rank_zero_reads_in_a_step(_start: int) -> Any:
    """``if trainer.is_global_zero: trainer.callback_metrics[...]`` (sleap-nn#476 has moved such a line)."""
    return _read(manual=False, strategy="ddp")


@situation("two", nightly=True)
def rank_zero_reads_in_a_step_with_smddp(_start: int) -> Any:
    return _read(manual=False, strategy=smddp())


@situation("two", nightly=True)
def rank_zero_reads_in_a_manual_step_with_smddp(_start: int) -> Any:
    return _read(manual=True, strategy=smddp())


@situation("two", nightly=True)
def rank_zero_reads_logged_metrics_with_smddp(_start: int) -> Any:
    return _read(manual=True, strategy=smddp(), what="logged_metrics")


@situation("two", nightly=True)
def rank_zero_reads_the_progress_bars_metrics_with_smddp(_start: int) -> Any:
    return _read(manual=False, strategy=smddp(), what="progress_bar_metrics")


class Everything(Model):
    """Logs in each way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torchmetrics.MeanMetric()

    def training_step(self, batch: list[torch.Tensor], _index: int) -> Any:
        loss = self.loss(batch)
        for how in ("min", "max", "sum", "mean"):
            self.log(how, loss, reduce_fx=how, on_step=False, on_epoch=True, sync_dist=how != "min")
        self.log("both", loss, on_step=True, on_epoch=True, sync_dist=True)
        self.log("own", loss, on_step=True)
        self.log_dict({"a": loss * 2, "b": loss * 3}, sync_dist=True, batch_size=len(batch[0]))
        self.mean.update(loss)
        self.log("object", self.mean, on_step=True, on_epoch=True)
        self.log("first", loss, rank_zero_only=True)
        return loss


def _everything(strategy: str) -> Any:
    t, m = trainer(strategy=strategy, logger=CSVLogger("logs"), log_every_n_steps=1), Everything()
    t.fit(m, loader(), loader(8))
    return fitted(m, t) | {
        "logged": logged(t.logged_metrics),
        "validated": t.validate(m, loader(8), verbose=True),
        "tested": t.test(m, loader(8)),
    }


@situation("two")
def everything_logged(_start: int) -> Any:
    """With the logger's file and the tables on stdout."""
    return _everything("ddp")


@situation("two")
def everything_logged_with_smddp(_start: int) -> Any:
    return _everything(smddp())


@situation()
def everything_logged_by_one_process(_start: int) -> Any:
    return _everything("auto")


@situation("two", nightly=True)
def logged_within_inference_mode_with_smddp(_start: int) -> Any:
    class Infers(Model):
        def training_step(self, batch: list[torch.Tensor], _index: int) -> Any:
            with torch.inference_mode():
                self.log("mae", (self.net(batch[0]) - batch[1]).abs().mean(), sync_dist=True)
            return self.loss(batch)

    t, m = trainer(strategy=smddp()), Infers()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two")
def logged_on_rank_zero_alone(_start: int) -> Any:
    """Ranks log different keys without ``sync_dist`` (pytorch-lightning#7129, #21409)."""

    class Uneven(Model):
        def on_train_epoch_end(self) -> None:
            if self.global_rank == 0:
                self.log("mine", float(self.current_epoch), rank_zero_only=True)

    t, m = trainer(), Uneven()
    t.fit(m, loader(), loader(8))
    return fitted(m, t)


@situation("two")
def early_stopping_on_a_reduced_metric(_start: int) -> Any:
    stopping = EarlyStopping("val", patience=1, min_delta=0.5)
    t, m = trainer(callbacks=[stopping], max_epochs=10), Model()
    t.fit(m, loader(), loader(8))
    return fitted(m, t) | {"stopped": stopping.stopped_epoch, "best": float(stopping.best_score)}


class Gathers(Callback):
    """A callback whose hooks use collectives, wherever metrics are read."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def _gather(self, of: Any, module: Any) -> None:
        self.found.append(of.strategy.all_gather(torch.tensor(float(module.seen + of.global_rank))).tolist())

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._gather(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._gather(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._gather(trainer, pl_module)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._gather(trainer, pl_module)


@situation("two")
def collectives_in_the_hooks_of_a_callback(_start: int) -> Any:
    """An epoch's metrics are reduced when somebody reads them: on all ranks at once, or never."""
    callback = Gathers()
    t, m = trainer(callbacks=[callback]), Model()
    t.fit(m, loader(), loader(8))
    t.test(m, loader(8), verbose=False)
    return fitted(m, t) | {"gathered": callback.found}
