"""When lines are due, and what they say, by a clock of the test's own."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_sagemaker.metrics import BEGIN, line, pattern
from lightning_sagemaker.metrics import lines as module
from lightning_sagemaker.metrics.lines import MetricLines, Progress, Values

if TYPE_CHECKING:
    from collections.abc import Mapping


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines:
    """Lines of a training whose steps take as long as the test says."""

    def __init__(self, capsys: pytest.CaptureFixture[str], interval: float = 30.0) -> None:
        self.clock = Clock()
        self.lines = MetricLines(interval, self.clock)
        self.lines.begin()
        self.capsys = capsys
        self.step = 0

    def train(self, seconds: float, *, has_bar: bool = False, steps: int | None = 100, **metrics: object) -> list[str]:
        """One batch; what it printed."""
        self.clock.now += seconds
        self.step += 1
        if self.lines.is_due(trained=True):
            self.lines.after_batch(metrics, self.place(has_bar=has_bar, steps=steps))
        return self.printed()

    def place(self, *, has_bar: bool = False, steps: int | None = 100) -> Progress:
        return Progress(0, self.step, steps, self.step / steps if steps else None, has_bar)

    def printed(self) -> list[str]:
        return [text.removeprefix(f"{BEGIN} ") for text in self.capsys.readouterr().out.splitlines()]


def test_a_line_comes_each_interval_from_the_end_of_the_first_batch_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(capsys)
    printed = [lines.train(seconds, loss=0.5) for seconds in (100.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0)]
    assert printed == [
        *([], [], []),
        ["epoch=0; step=4; steps_per_second=0.1; loss=0.5; (of 100 steps, 0:16:00 left)"],
        *([], []),
        ["epoch=0; step=7; steps_per_second=0.1; (of 100 steps, 0:15:30 left)"],
    ]


def test_an_epoch_s_line_counts_as_one_and_a_validation_s_takes_nothing_from_the_speed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(capsys)
    lines.train(1.0)
    lines.train(20.0)
    lines.clock.now += 100.0  # validation
    lines.lines.after_evaluation({"val": 1.0}, lines.place())
    lines.lines.after_epoch({"val": 1.0, "train": 2.0}, lines.place())
    assert lines.printed() == [
        "epoch=0; step=2; val=1;",
        "epoch=0; step=2; steps_per_second=0.05; train=2; (of 100 steps, 3:16:00 left)",
    ]
    assert lines.train(20.0) == []
    assert len(lines.train(20.0)) == 1


def test_beside_a_progress_bar_a_line_has_metrics_that_have_changed_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(capsys)
    printed = [lines.train(31.0, has_bar=True, loss=loss) for loss in (0.5, 0.5, 0.5, 0.25)]
    assert printed == [[], ["epoch=0; step=2; loss=0.5;"], [], ["epoch=0; step=4; loss=0.25;"]]
    lines.clock.now += 31.0
    assert lines.lines.is_due(trained=False)
    lines.lines.during_evaluation(lines.place(has_bar=True), "validate: batch 1 of 2")
    assert lines.printed() == []


def test_a_long_validation_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(capsys)
    lines.train(1.0)
    for batch in (1, 2, 3):
        lines.clock.now += 20.0
        if lines.lines.is_due(trained=False):
            lines.lines.during_evaluation(lines.place(), f"validate: batch {batch} of 3")
    assert lines.printed() == ["epoch=0; step=1; (validate: batch 2 of 3)"]


def test_an_interval_of_0_leaves_the_lines_at_the_end_of_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(capsys, interval=0.0)
    assert [lines.train(1e6) for _ in range(3)] == [[], [], []]
    lines.lines.after_epoch({}, lines.place(steps=None))
    assert lines.printed() == ["epoch=0; step=3; steps_per_second=1e-06;"]


def test_on_a_rank_that_does_not_print_nothing_is_ever_due() -> None:
    lines, clock = MetricLines(30.0), Clock()
    lines._clock = clock
    for _ in range(3):
        clock.now += 100.0
        assert not lines.is_due(trained=True)
        assert not lines.is_due(trained=False)


def test_a_second_run_is_told_from_its_own_beginning_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(capsys)
    lines.train(1.0, loss=0.5)
    assert len(lines.train(31.0, loss=0.5)) == 1
    lines.clock.now += 1000.0
    lines.lines.begin()
    lines.step = 0
    assert lines.train(1.0, loss=0.5) == []
    assert lines.train(31.0, loss=0.5) == [
        "epoch=0; step=2; steps_per_second=0.03226; loss=0.5; (of 100 steps, 0:50:38 left)"
    ]


class Late(Values):
    """Values that a GPU still computes."""

    arrived = False

    def are_there(self) -> bool:
        return self.arrived


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[Late]:
    made: list[Late] = []

    def make(metrics: Mapping[str, object]) -> Late:
        made.append(Late(metrics))
        return made[-1]

    monkeypatch.setattr(module, "Values", make)
    return made


def test_a_line_waits_for_its_values_while_the_training_goes_on_and_keeps_its_step(
    capsys: pytest.CaptureFixture[str], late: list[Late]
) -> None:
    lines = Lines(capsys)
    lines.train(1.0)
    assert lines.train(30.0, loss=0.5) == []
    assert lines.train(1.0, loss=0.25) == []
    late[0].arrived = True
    assert lines.train(1.0, loss=0.125) == [
        "epoch=0; step=2; steps_per_second=0.03333; loss=0.5; (of 100 steps, 0:49:00 left)"
    ]
    assert len(late) == 1


def test_lines_keep_their_order_and_the_last_ones_come_at_the_end_of_the_run(
    capsys: pytest.CaptureFixture[str], late: list[Late]
) -> None:
    lines = Lines(capsys)
    lines.train(1.0)
    lines.train(30.0, loss=0.5)
    lines.lines.after_epoch({"loss": 0.25}, lines.place())
    late[1].arrived = True
    assert lines.train(1.0) == []
    lines.lines.end()
    assert [re.search(pattern("loss"), f"{BEGIN} {text}")[1] for text in lines.printed()] == ["0.5", "0.25"]  # type: ignore[index]


def test_what_a_failed_device_has_not_sent_is_left_to_who_used_it(
    capsys: pytest.CaptureFixture[str], late: list[Late], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(capsys)
    lines.train(1.0)
    lines.train(30.0, loss=0.5)

    def failed() -> dict[str, float]:
        raise torch.AcceleratorError("unspecified launch failure")

    monkeypatch.setattr(late[0], "read", failed)
    lines.lines.end()
    assert lines.printed() == []


@pytest.mark.parametrize("name", ["loss", "val/loss", "a.b", "acc(top 5)", "step", "steps_per_second"])
@pytest.mark.parametrize("value", [0.25, -1.0, 1e-12, 3e20, 0.0, float("inf")])
def test_a_metric_s_pattern_finds_it_wherever_it_stands_beside_a_note(name: str, value: float) -> None:
    values = {"epoch": 3.0, "x": 1.0, name: value, "y": 2.0}
    found = re.search(pattern(name), line(values, "of 4000 steps, 0:03:46 left"))
    assert found is not None
    assert float(found[1]) == value


def test_where_there_is_no_standard_output_nothing_is_printed_and_nothing_raised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(capsys)
    monkeypatch.setattr(sys, "stdout", None)
    lines.lines.after_epoch({"loss": 0.5}, lines.place())
    monkeypatch.undo()
    assert lines.printed() == []


def test_a_name_that_the_standard_output_cannot_encode_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(capsys)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    lines.lines.after_epoch({"größe": 0.5}, lines.place())
    assert rb" gr\xf6\xdfe=0.5;" in written.getvalue()
