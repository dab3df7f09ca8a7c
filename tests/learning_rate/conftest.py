"""Trainers, models and callbacks of both distributions, whose learning rates are noted."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

import pytest
from torch.optim import SGD, lr_scheduler

from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Rates = list[list[float]]

BATCHES = 3  # of an epoch

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    if importlib.util.find_spec(request.param.partition(".")[0]) is None:
        pytest.skip(f"`{request.param}` is not installed")
    return Lab(request.param, tmp_path)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """What our logger was told."""
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(log, "handle", records.append)
    monkeypatch.setattr(log, "isEnabledFor", lambda level: level >= logging.INFO)
    return records


def messages(said: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in said]


class Lab:
    """Trainers, models and callbacks of one distribution."""

    def __init__(self, package: Any, folder: Path) -> None:
        self.pl = importlib.import_module(package)
        self.boring: Any = importlib.import_module(f"{package}.demos.boring_classes")
        self.single: Any = importlib.import_module(f"{package}.strategies").SingleDeviceStrategy
        self.folder = folder

    def trainer(self, *callbacks: Any, world_size: int = 4, epochs: int = 4, **given: Any) -> Any:
        """Trainer with one process that believes to be one of many."""
        strategy = self.single("cpu")
        strategy.world_size = world_size
        given = {"limit_train_batches": BATCHES, "limit_val_batches": 0, "enable_checkpointing": False, **given}
        given |= {"max_epochs": epochs, "strategy": strategy, "default_root_dir": self.folder}
        return self.pl.Trainer(callbacks=list(callbacks), **QUIET, **given)

    def model(self, configure: Callable[..., Any] | None = None) -> Any:
        """Model whose optimizers are what a function makes of its two parameters; SGD with lr 0.1 if not given."""

        class Model(self.boring.BoringModel):  # type: ignore[name-defined,misc]
            def configure_optimizers(self) -> Any:
                return configure(*self.parameters()) if configure else SGD(self.parameters(), lr=0.1)

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                self.log("flat", 1.0)
                return super().training_step(batch, batch_idx)

        return Model()

    def gan(self) -> Any:
        """Model with two optimizers, of lr 0.1 and 0.01, and schedulers that it steps itself."""

        class Gan(self.boring.BoringModel):  # type: ignore[name-defined,misc]
            automatic_optimization = False

            def configure_optimizers(self) -> Any:
                layer: Any = self.layer
                optimizers = [SGD([layer.weight], lr=0.1), SGD([layer.bias], lr=0.01)]
                return optimizers, [lr_scheduler.StepLR(optimizer, 2) for optimizer in optimizers]

            def training_step(self, batch: Any, _batch_idx: int) -> None:
                for optimizer, scheduler in zip(self.optimizers(), self.lr_schedulers(), strict=True):
                    self.manual_backward(self.step(batch))
                    optimizer.step()
                    scheduler.step()

            def on_train_epoch_end(self) -> None:
                pass

        return Gan()

    def recorder(self) -> Any:
        """Callback that notes the learning rates with which steps are made, in `rates`."""

        class Recorder(self.pl.Callback):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                self.rates: Rates = []

            def on_before_optimizer_step(self, _trainer: Any, _module: Any, optimizer: Any) -> None:
                self.rates.append([float(group["lr"]) for group in optimizer.param_groups])

        return Recorder()

    def rates(self, *callbacks: Any, model: Any = None, ckpt_path: str | None = None, **given: Any) -> Rates:
        """The learning rates of a training: of each step, of each parameter group."""
        recorder = self.recorder()
        trainer = self.trainer(*callbacks, recorder, **given)
        trainer.fit(model or self.model(), ckpt_path=ckpt_path)
        return recorder.rates  # type: ignore[no-any-return]

    def saved(self, *callbacks: Any, model: Any = None, **given: Any) -> str:
        """Path of a checkpoint of a training."""
        trainer = self.trainer(*callbacks, **given)
        trainer.fit(model or self.model())
        path = str(self.folder / "saved.ckpt")
        trainer.save_checkpoint(path)
        return path


def ramp(target: float, steps: int, low: float = 1) -> list[float]:
    """Factors of twelve steps."""
    return [target if step >= steps else low + (target - low) * step / steps for step in range(12)]


def close(rates: Iterable[Iterable[float]]) -> Any:
    return [pytest.approx(list(groups), rel=1e-9) for groups in rates]


def cosine(*parameters: Any) -> Any:
    optimizer = SGD(parameters, lr=0.1)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0.01)
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
