"""Waits for other processes: each writes a line every 30 s, and ends after a limit."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeVar

from lightning_sagemaker.distributed.store import Arrival, PrefixStore
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store

    Found = TypeVar("Found")

EVERY = 30.0  # seconds between lines while anyone waits
_GOODBYE = 5.0  # seconds that the process with the store waits for the others at its end


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


def leave_store(store: Store, size: int, who: str, *, has_server: bool, limit: float = _GOODBYE) -> None:
    """Let the process with the store's server end last of so many: the others would learn of a lost connection only."""
    others = Arrival(PrefixStore("left", store), size)
    with suppress(RuntimeError, TimeoutError):  # the former of a store that has ended already
        others.arrive()
        if has_server:
            Wait(who, lambda: "the others to end", limit=limit).until(others.outcome)
