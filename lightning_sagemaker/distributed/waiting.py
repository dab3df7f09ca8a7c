"""Waits for other processes: each writes a line every 30 s, and ends after a limit."""

from __future__ import annotations

import math
import time
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeVar

from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable

    Found = TypeVar("Found")

EVERY = 30.0  # seconds between lines while anyone waits


@dataclass
class Wait:
    """One wait for other processes: every 30 s a line says for whom, and a limit ends it."""

    who: str
    what: Callable[[], str]
    _: KW_ONLY
    limit: float = math.inf
    hint: str = ""
    speaks: bool = True  # whether this process is the one of its host that writes the lines
    progress: Callable[[], int] = lambda: 0  # while it rises, the others get on, and the limit begins anew

    def __post_init__(self) -> None:
        self._seen = 0
        self._start = self._moved = time.monotonic()
        self._due, self._has_spoken = self._start + EVERY, False

    def until(self, poll: Callable[[], Found | None], pauses: tuple[float, float] = (0.005, 0.25)) -> Found:
        """Wait until a function returns something; ``pauses`` between two calls are from so many seconds to so many."""
        pause, longest = pauses
        while (found := poll()) is None:
            self._check()
            time.sleep(pause)
            pause = min(2 * pause, longest)
        return found

    def say_soon(self, seconds: float) -> None:
        """Write the first line after this many seconds instead of 30."""
        if not self._has_spoken:
            self._due = min(self._due, self._start + seconds)

    def _check(self) -> None:
        now = time.monotonic()
        if now < self._due and now - self._moved < self.limit:
            return
        if (progress := self.progress()) != self._seen:
            self._seen, self._moved = progress, now
        if now - self._moved >= self.limit:
            hint = f". {self.hint}" if self.hint else ""
            raise TimeoutError(
                f"{self.who} has waited {now - self._start:.0f} s, the time limit, for {self.what()}{hint}"
            )
        self._due, self._has_spoken = now + EVERY, True
        if self.speaks:
            log.warning("%s has waited %.0f s for %s", self.who, now - self._start, self.what())
