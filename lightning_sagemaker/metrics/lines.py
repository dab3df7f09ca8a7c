"""Lines of one Trainer: when one is due, what it says, and the values in it, read from their device without waiting.

``.item()`` of a value that a GPU is still computing stops the process until all that was sent to the GPU before is
done; the training's next kernels are sent late, and the GPU idles. So values are copied to the host behind the
kernels that compute them, and printed once the copy has arrived.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lightning_sagemaker.metrics import line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Progress(NamedTuple):
    """Where a Trainer is."""

    epoch: int  # from 0
    step: int  # of the optimizer
    steps: int | None = None  # at the end of the training, where that is known
    share: float | None = None  # part of the training that is done, from 0 to 1, where its end is known
    has_bar: bool = False  # a progress bar shows all this


class Pace:
    """Speed of a training, measured from the end of its first batch, which takes longer than others."""

    def __init__(self, now: float, at: Progress) -> None:
        self._start = self._last = (now, at.step, at.share)
        self._aside = 0.0

    def leave_out(self, seconds: float) -> None:
        """Exclude a validation's time from the steps per second; the time left includes it, as more follow."""
        self._aside += seconds

    def measure(self, now: float, at: Progress) -> tuple[float | None, float | None]:
        """Steps per second since the last measurement, and seconds left; ``None`` for what is unknown."""
        here = (now, at.step, at.share)
        if at.step < self._last[1]:  # a search for a learning rate has put the model back
            self._start = self._last = here
        (begin, _, done), (last, last_step, _), aside = self._start, self._last, self._aside
        self._last, self._aside = here, 0.0
        seconds = now - last - aside
        rate = (at.step - last_step) / seconds if at.step > last_step and seconds > 0 else None
        if at.share is None or done is None or not done < at.share <= 1:
            return rate, None
        return rate, (now - begin) * (1 - at.share) / (at.share - done)


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, ``0:03:46``."""
    return str(timedelta(seconds=round(seconds)))


class _Line(NamedTuple):
    head: Mapping[str, float]
    values: Values
    note: str
    always: bool  # also where no metric has changed


class MetricLines:
    """Prints a Trainer's progress, and the metrics that have changed since the previous line."""

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval or math.inf
        self._clock = clock
        self._printed: dict[str, float] = {}
        self._waiting: deque[_Line] = deque()
        self._pace: Pace | None = None
        self._begins = False
        self._trained = self._due = math.inf

    def begin(self) -> None:
        """Begin a run of the Trainer on the rank that prints; on other ranks no line is ever due."""
        self._printed, self._pace, self._begins = {}, None, True
        self._due = self._clock() + self._interval

    def is_due(self, *, trained: bool) -> bool:
        """Whether a line is due after a batch; the only code that runs after each one."""
        now = self._clock()
        if trained:
            self._trained = now
        return now >= self._due or bool(self._waiting) or (trained and self._begins)

    def after_batch(self, metrics: Mapping[str, object], place: Progress) -> None:
        """Print a line within an epoch, if one is due."""
        self._print_arrived()
        if self._pace is None:  # the first batch, with what takes its time once, is no measure of the others
            self._begins = False
            self._pace = Pace(self._trained, place)
            self._due = self._trained + self._interval
        elif self._trained >= self._due:
            self.after_epoch(metrics, place)

    def after_epoch(self, metrics: Mapping[str, object], place: Progress) -> None:
        """Print a line when an epoch of training ends."""
        notes, head = [], {}
        if not place.has_bar:
            rate, left = (None, None) if self._pace is None else self._pace.measure(self._clock(), place)
            if rate is not None:
                head["steps_per_second"] = float(f"{rate:.4g}")
            notes = [f"of {place.steps} steps"] if place.steps is not None and place.steps >= place.step else []
            notes += [] if left is None else [f"{duration(left)} left"]
        self._add(metrics, place, head, ", ".join(notes), always=not place.has_bar)

    def during_evaluation(self, place: Progress, note: str) -> None:
        """Print a line within a validation or a test, if one is due and there is no progress bar."""
        self._print_arrived()
        if self._clock() >= self._due:
            self._add({}, place, {}, note, always=not place.has_bar)

    def after_evaluation(self, metrics: Mapping[str, object], place: Progress) -> None:
        """Print the metrics of a validation or a test."""
        if self._pace is not None:
            now = self._clock()
            self._pace.leave_out(now - self._trained)
            self._trained = now
        self._add(metrics, place, {}, "", always=False)

    def end(self) -> None:
        """Print the remaining metrics when a run of the Trainer ends, also after an error."""
        with suppress(RuntimeError):  # the device has failed, which whoever used it says
            while self._waiting:
                self._print(self._waiting.popleft())

    def _add(
        self, metrics: Mapping[str, object], place: Progress, head: Mapping[str, float], note: str, *, always: bool
    ) -> None:
        self._due = self._clock() + self._interval
        head = {"epoch": place.epoch, "step": place.step, **head}
        self._waiting.append(_Line(head, Values(metrics), note, always))
        self._print_arrived()

    def _print_arrived(self) -> None:
        while self._waiting and self._waiting[0].values.are_there():
            self._print(self._waiting.popleft())

    def _print(self, found: _Line) -> None:
        changed = {name: value for name, value in found.values.read().items() if self._printed.get(name) != value}
        self._printed |= changed
        if changed or found.always:
            _write(line({**found.head, **changed}, found.note) + "\n")


def _write(text: str) -> None:
    stream = sys.stdout
    if stream is None:  # in a process without standard output, where `print` is silent, too
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))  # metrics have names in any language
    stream.flush()


class Values:
    """Metrics at one moment; only single numbers, on the CPU or a CUDA device."""

    def __init__(self, metrics: Mapping[str, object]) -> None:
        self._numbers: dict[str, float] = {}
        on_devices: dict[torch.device, dict[str, torch.Tensor]] = {}
        for name, value in metrics.items():
            # Other accelerators (XLA, HPU) compute a value when it is asked for, which is not for one rank to do.
            if isinstance(value, torch.Tensor) and value.device.type != "cpu":
                if value.is_cuda and value.numel() == 1 and not value.is_complex():
                    on_devices.setdefault(value.device, {})[name] = value
            elif (number := _number(value)) is not None:
                self._numbers[name] = number
        self._copies = [(list(values), *_copy(list(values.values()))) for values in on_devices.values()]
        self._names = list(metrics)

    def are_there(self) -> bool:
        """Whether all values can be read without waiting."""
        return all(arrived.query() for _, _, arrived in self._copies)

    def read(self) -> dict[str, float]:
        """All values by name; waits for those that have not arrived."""
        for names, copy, arrived in self._copies:
            arrived.synchronize()
            self._numbers |= zip(names, copy.tolist(), strict=True)
        self._copies.clear()
        return {name: self._numbers[name] for name in self._names if name in self._numbers}


def _copy(values: list[torch.Tensor]) -> tuple[torch.Tensor, torch.cuda.Event]:
    """Start copying values from one CUDA device to the host, without waiting for the device."""
    together = torch.stack([value.detach().reshape(()).to(torch.float64) for value in values])
    copy = torch.empty(len(values), dtype=torch.float64, pin_memory=True)  # into other memory, a copy waits for its end
    copy.copy_(together, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(together.device))
    return copy, arrived


def _number(value: Any) -> float | None:
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # tensors raise the last
        return None
