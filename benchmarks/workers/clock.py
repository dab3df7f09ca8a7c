"""Times of the steps of a Trainer, with nothing added to the steps but the reading of a clock."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch


class Clock:
    """Marks moments, and says the seconds between them: of the GPU where there is one, else of this process."""

    def __init__(self) -> None:
        self._on_gpu = torch.cuda.is_available()
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Mark this moment; on a GPU without waiting for it."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def prolong(self, share: float) -> None:
        """Make the step since the last mark longer by this share of it."""
        if self._on_gpu:
            torch.cuda.synchronize()
            started, now = self._marks[-1], torch.cuda.Event(enable_timing=True)
            now.record()
            now.synchronize()
            wait = share * started.elapsed_time(now) / 1000
        else:
            wait = share * (time.perf_counter() - self._marks[-1])
        end = time.perf_counter() + wait
        while time.perf_counter() < end:  # a sleep is never as short as it should be
            pass

    def seconds(self) -> list[float]:
        """Seconds between neighbouring marks, which are forgotten."""
        marks, self._marks = self._marks, []
        if not self._on_gpu:
            return [later - earlier for earlier, later in itertools.pairwise(marks)]
        torch.cuda.synchronize()
        return [earlier.elapsed_time(later) / 1000 for earlier, later in itertools.pairwise(marks)]
