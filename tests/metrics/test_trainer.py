"""Lines of real Trainers, whose batches take as long as the test says."""

from __future__ import annotations

import io
import logging
import math
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torchmetrics
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_sagemaker.metrics import BEGIN
from lightning_sagemaker.settings import METRICS, PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Made = Callable[..., Trainer]

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 2,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Model(LightningModule):
    """A model whose batches of training take 2 s, and those of validation 5 s."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.net = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.clock.now += 2
        self.log("loss", torch.tensor(float(batch_idx)))
        return self.net(batch).sum()  # type: ignore[no-any-return]

    def validation_step(self, _batch: Tensor, _index: int) -> None:
        self.clock.now += 5
        self.log("val", torch.tensor(float(self.global_step)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def batches(number: int) -> DataLoader[Any]:
    return DataLoader(torch.ones(number, 1))  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    """Make a Trainer whose lines come each 10 s."""
    monkeypatch.setenv(METRICS, "1")
    monkeypatch.setenv(PROGRESS, "10")

    def make(**arguments: Any) -> Trainer:
        trainer = Trainer(**(QUIET | {"default_root_dir": tmp_path} | arguments))
        vars(trainer._logger_connector)["_lightning_sagemaker_lines"]._clock = clock
        return trainer

    return make


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    def read() -> list[str]:
        found = capsys.readouterr().out.splitlines()
        return [text.partition(f"{BEGIN} ")[2] for text in found if BEGIN in text]  # a bar's line has no end of its own

    return read


def test_a_training_with_validations_in_the_middle(clock: Clock, made: Made, printed: Callable[[], list[str]]) -> None:
    made(val_check_interval=10, max_epochs=1).fit(Model(clock), batches(20), batches(3))
    assert printed() == [
        # 10 s after the first batch
        "epoch=0; step=6; steps_per_second=0.5; loss=5; (of 20 steps, 0:00:28 left)",
        "epoch=0; step=10; (validate: batch 1 of 3)",
        "epoch=0; step=10; (validate: batch 3 of 3)",
        "epoch=0; step=10; loss=9; val=10;",
        "epoch=0; step=15; steps_per_second=0.5; loss=14; (of 20 steps, 0:00:15 left)",
        "epoch=0; step=20; steps_per_second=0.5; loss=19; (of 20 steps, 0:00:00 left)",
        "epoch=0; step=20; (validate: batch 2 of 3)",
        "epoch=0; step=20; val=20;",
        "epoch=0; step=20; (of 20 steps, 0:00:00 left)",
    ]


def test_limits_of_batches_and_steps_are_the_end_that_is_told(
    clock: Clock, made: Made, printed: Callable[[], list[str]]
) -> None:
    made(limit_train_batches=0.5, accumulate_grad_batches=2, max_epochs=2).fit(Model(clock), batches(24))
    assert printed() == [
        "epoch=0; step=3; steps_per_second=0.3; loss=5; (of 12 steps, 0:00:36 left)",
        "epoch=0; step=5; steps_per_second=0.2; loss=10; (of 12 steps, 0:00:26 left)",
        "epoch=0; step=6; steps_per_second=0.5; loss=11; (of 12 steps, 0:00:24 left)",
        "epoch=1; step=8; steps_per_second=0.2; loss=4; (of 12 steps, 0:00:14 left)",
        "epoch=1; step=11; steps_per_second=0.3; loss=9; (of 12 steps, 0:00:04 left)",
        "epoch=1; step=12; steps_per_second=0.25; loss=11; (of 12 steps, 0:00:00 left)",
    ]
    made(limit_train_batches=6, max_steps=7, max_epochs=-1).fit(Model(clock), batches(24))
    assert printed()[0] == "epoch=0; step=6; steps_per_second=0.5; loss=5; (of 7 steps, 0:00:02 left)"


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.ones(12, 1))


def test_of_data_without_a_length_no_end_is_told(clock: Clock, made: Made, printed: Callable[[], list[str]]) -> None:
    loader = DataLoader(Stream())
    made(max_epochs=1).fit(Model(clock), loader, DataLoader(Stream()))
    assert printed() == [
        "epoch=0; step=6; steps_per_second=0.5; loss=5;",
        "epoch=0; step=11; steps_per_second=0.5; loss=10;",
        "epoch=0; step=12; (validate: batch 2)",
        "epoch=0; step=12; (validate: batch 4)",
        "epoch=0; step=12; (validate: batch 6)",
        "epoch=0; step=12; (validate: batch 8)",
        "epoch=0; step=12; (validate: batch 10)",
        "epoch=0; step=12; (validate: batch 12)",
        "epoch=0; step=12; loss=11; val=12;",
        "epoch=0; step=12; steps_per_second=0.5;",
    ]


def test_a_training_resumed_in_mid_epoch_is_measured_from_there(
    clock: Clock, made: Made, printed: Callable[[], list[str]], tmp_path: Path
) -> None:
    saving = ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=8, save_top_k=1)
    made(callbacks=[saving], enable_checkpointing=True, max_steps=8).fit(Model(clock), batches(20))
    printed()
    clock.now += 1e6
    made().fit(Model(clock), batches(20), ckpt_path=tmp_path / "middle.ckpt")
    told = printed()
    # Lightning 2.2 trains the batch of the checkpoint once more.
    assert re.fullmatch(
        r"epoch=0; step=14; steps_per_second=0\.5; loss=1[23]; \(of 40 steps, 0:00:5[24] left\)", told[0]
    )
    assert told[-1].endswith("(of 40 steps, 0:00:00 left)")


def test_several_fits_and_a_test_of_one_trainer_are_told_one_by_one(
    clock: Clock, made: Made, printed: Callable[[], list[str]]
) -> None:
    class Tests(Model):
        def test_step(self, *_: object) -> None:
            self.clock.now += 11
            self.log("test", torch.tensor(0.25))

    model = Tests(clock)
    for _ in range(2):
        trainer = made(max_epochs=1)
        trainer.fit(model, batches(7))
        assert printed() == [
            "epoch=0; step=6; steps_per_second=0.5; loss=5; (of 7 steps, 0:00:02 left)",
            "epoch=0; step=7; steps_per_second=0.5; loss=6; (of 7 steps, 0:00:00 left)",
        ]
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, batches(7))
    assert [text.partition(";")[0] for text in printed()] == ["epoch=1", "epoch=1"]
    for _ in range(2):
        trainer.test(model, batches(2), verbose=False)
        assert printed() == [
            "epoch=2; step=14; (test: batch 1 of 2)",
            "epoch=2; step=14; (test: batch 2 of 2)",
            "epoch=2; step=14; test=0.25;",
        ]


class Own(ProgressBar):
    """A user's own progress bar."""

    def disable(self) -> None: ...

    def enable(self) -> None: ...


@pytest.mark.parametrize("bar", [TQDMProgressBar, Own])
def test_beside_a_bar_that_the_script_asks_for_lines_leave_progress_to_it(
    clock: Clock, made: Made, printed: Callable[[], list[str]], bar: type[ProgressBar]
) -> None:
    made(callbacks=[bar()], enable_progress_bar=True, max_epochs=1).fit(Model(clock), batches(12), batches(3))
    assert printed() == [
        "epoch=0; step=6; loss=5;",
        "epoch=0; step=11; loss=10;",
        "epoch=0; step=12; loss=11; val=12;",
    ]


def test_a_bar_that_is_switched_off_is_none(clock: Clock, made: Made, printed: Callable[[], list[str]]) -> None:
    bar = TQDMProgressBar(refresh_rate=0)
    made(callbacks=[bar], enable_progress_bar=True, max_epochs=1).fit(Model(clock), batches(7))
    assert "left" in printed()[0]


class Manual(Model):
    """Two optimizers, each of which counts a step."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.automatic_optimization = False

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        return [super(Manual, self).configure_optimizers() for _ in range(2)]


def test_where_the_script_counts_the_steps_the_time_left_goes_by_batches(
    clock: Clock, made: Made, printed: Callable[[], list[str]]
) -> None:
    made(max_epochs=1).fit(Manual(clock), batches(12))
    made(max_epochs=1, max_steps=20).fit(Manual(clock), batches(12))
    assert printed() == [
        "epoch=0; step=12; steps_per_second=1; loss=5; (0:00:12 left)",
        "epoch=0; step=22; steps_per_second=1; loss=10; (0:00:02 left)",
        "epoch=0; step=24; steps_per_second=1; loss=11; (0:00:00 left)",
        "epoch=0; step=12; steps_per_second=1; loss=5; (0:00:08 left)",
        "epoch=0; step=20; steps_per_second=1; loss=9; (0:00:00 left)",
    ]


def test_nothing_is_computed_for_a_line(clock: Clock, made: Made, printed: Callable[[], list[str]]) -> None:
    """An epoch's metric is computed by reductions of all ranks, and this rank's line is no reason for one."""

    class Counted(torchmetrics.MeanMetric):
        computed = 0

        def compute(self) -> Tensor:
            type(self).computed += 1
            return super().compute()

    class Measures(Model):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.mean = Counted()
            self.before_epoch_end = math.nan

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            self.mean.update(float(batch_idx))
            self.log("mean", self.mean, on_step=False, on_epoch=True)
            self.log("sum", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
            self.before_epoch_end = Counted.computed
            return super().training_step(batch, batch_idx)

    model = Measures(clock)
    made(max_epochs=1).fit(model, batches(12))
    told = printed()
    assert [("mean=" in text, "sum=" in text) for text in told] == [(False, False), (False, False), (True, True)]
    assert model.before_epoch_end == 0
    assert Counted.computed == 1


def test_what_was_said_last_arrives_when_a_training_fails(
    clock: Clock, made: Made, printed: Callable[[], list[str]]
) -> None:
    class Fails(Model):
        def on_train_batch_start(self, _batch: Tensor, batch_idx: int) -> None:
            if batch_idx == 7:
                raise ValueError("a mistake of the script's")

    with pytest.raises(ValueError, match="mistake"):
        made().fit(Fails(clock), batches(12))
    assert len(printed()) == 1


class Full(io.StringIO):
    """A log on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_standard_output_that_fails_ends_the_lines_with_one_warning_and_not_the_training(
    clock: Clock, made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = made()
    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        monkeypatch.setattr(sys, "stdout", stream)
        trainer.fit(Model(clock), batches(4))
    monkeypatch.undo()
    assert trainer.global_step == 8
    assert [record.message for record in caplog.records if record.name == "lightning_sagemaker"] == [
        "This Trainer prints no more lines of progress: OSError: [Errno 28] No space left on device"
    ]


@pytest.mark.parametrize("text", ["often", "-1"])
def test_a_bad_interval_is_an_error_of_the_trainer_that_names_it(
    monkeypatch: pytest.MonkeyPatch, made: Made, text: str
) -> None:
    monkeypatch.setenv(PROGRESS, text)
    with pytest.raises(ValueError, match=rf"^Environment variable `{PROGRESS}`='{text}'; expected a number of seconds"):
        made()
    monkeypatch.setenv(METRICS, "0")
    Trainer(**QUIET)  # nobody reads it


@pytest.mark.parametrize("text", ["", "0", "off"])
def test_without_the_setting_nothing_is_printed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], list[str]], text: str
) -> None:
    monkeypatch.setenv(METRICS, text)
    Trainer(**QUIET).fit(Model(clock), batches(12), batches(3))
    assert printed() == []


def test_a_malformed_setting_is_an_error_of_the_trainer_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS, "perhaps")
    with pytest.raises(ValueError, match=rf"^Environment variable `{METRICS}`='perhaps'; expected 1"):
        Trainer(**QUIET)
