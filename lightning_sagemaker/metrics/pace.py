"""The speed of a training, and the time it still takes."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple


class Position(NamedTuple):
    """Progress of a training at one moment."""

    now: float
    step: int
    share: float | None


class Pace:
    """Speed of a training, measured from the end of its first batch, which takes longer than others."""

    def __init__(self, start: Position) -> None:
        self._start = self._last = start
        self._aside = 0.0

    def leave_out(self, seconds: float) -> None:
        """Exclude a validation's time from the steps per second; the time left includes it, as more follow."""
        self._aside += seconds

    def measure(self, position: Position) -> tuple[float | None, float | None]:
        """Steps per second since the last measurement, and seconds left; ``None`` for what is unknown."""
        if position.step < self._last.step:  # a search for a learning rate has put the model back
            self._start = self._last = position
        start, last, aside = self._start, self._last, self._aside
        self._last, self._aside = position, 0.0
        seconds = position.now - last.now - aside
        rate = (position.step - last.step) / seconds if position.step > last.step and seconds > 0 else None
        if position.share is None or start.share is None or not start.share < position.share <= 1:
            return rate, None
        return rate, (position.now - start.now) * (1 - position.share) / (position.share - start.share)


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, ``0:03:46``."""
    return str(timedelta(seconds=round(seconds)))
