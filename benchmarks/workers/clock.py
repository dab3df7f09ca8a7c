"""Times of steps, with nothing added to them but the reading of a clock."""

import itertools
import time
from typing import Any

import torch


class Clock:
    """Marks moments, and says the seconds between them: of the GPU where there is one, else of this process."""

    def __init__(self) -> None:
        self._on_gpu = torch.cuda.is_available()
        self._marks: list[Any] = []

    def _now(self) -> Any:  # noqa: ANN401 - an event, or seconds
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, earlier: Any, later: Any) -> float:  # noqa: ANN401 - the same
        return float(earlier.elapsed_time(later) / 1000 if self._on_gpu else later - earlier)

    def mark(self) -> None:
        """Mark this moment; on a GPU without waiting for it."""
        self._marks.append(self._now())

    def prolong(self, share: float) -> None:
        """Make the step since the last mark longer by this share of it."""
        now = self._now()
        if self._on_gpu:
            torch.cuda.synchronize()
        end = time.perf_counter() + share * self._between(self._marks[-1], now)
        while time.perf_counter() < end:  # a sleep is never as short as it should be
            pass

    def seconds(self) -> list[float]:
        """Seconds between neighbouring marks, which are forgotten."""
        marks, self._marks = self._marks, []
        if self._on_gpu:
            torch.cuda.synchronize()
        return [self._between(*pair) for pair in itertools.pairwise(marks)]
