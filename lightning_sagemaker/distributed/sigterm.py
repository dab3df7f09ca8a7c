"""SIGTERM: all ranks stop at the same point of the training, whichever of them it reached.

Lightning's own handler runs a collective inside the signal handler (since 2.5.6), which deadlocks where one rank alone
got the signal, and a broadcast before each batch; older versions let each rank stop at a step of its own. Here nothing
of the kind runs in the training: each rank counts the *step boundaries* that it passes, one per batch, and a thread
beside the training does the rest over the process group's store:

1. A rank that got SIGTERM says so.
2. Each rank tells how many step boundaries it has passed; from then on it waits at its next one for the decision.
3. Rank 0 takes the largest number plus one: the first step boundary that no rank has passed.

Nobody who waits at a step boundary is waited for in a collective by a rank that has not reached that boundary, since
all ranks pass step boundaries and collectives in the same order. So the waits are short, and cannot form a circle.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed import background
from lightning_sagemaker.distributed.shutdown import at_exit
from lightning_sagemaker.distributed.store import (
    Arrival,
    PrefixStore,
    Store,
    end_of_group,
    own_connection,
    read,
    write,
    write_first,
)
from lightning_sagemaker.distributed.waiting import Wait
from lightning_sagemaker.messages import log, speak

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXIT_CODE = 128 + 15  # what a shell calls the end by SIGTERM; 0 would be a success to SageMaker
_INTERVAL = 1.0  # seconds between two looks at the store: one look of 1,000 ranks each is nothing to it
_PATIENCE = 60.0  # seconds that a rank may take to answer
_GOODBYE = 2.0  # seconds that rank 0 waits for the others at its end

_made: WeakKeyDictionary[object, StopAgreement] = WeakKeyDictionary()  # by process group, and one of this process alone
_numbers = itertools.count()  # all ranks make their agreements in the same order, as they make groups


@dataclass(frozen=True)
class Stop:
    """What all ranks agreed on.

    Attributes:
        boundary: Number of the step boundary at which all stop, from 1.
        folder: Where the checkpoint will be, the same on all hosts; ``None`` where rank 0 has no such folder.
    """

    boundary: int
    folder: str | None


def agreement(rank: int, world_size: int, where: str, folder: Callable[[], Path | None]) -> StopAgreement | None:
    """The agreement between the ranks of the default process group, or of one process with itself; one for each group.

    Returns:
        ``None`` where the group's store is no TCP server.

    Raises:
        ValueError: There are several processes and no process group.
    """
    group = dist.group.WORLD if world_size > 1 else StopAgreement
    if group not in _made:
        try:
            store = own_connection(timedelta(seconds=_PATIENCE)) if world_size > 1 else HashStore()
        except RuntimeError as error:  # no second connection: the training needs none
            background.warn_lost(_lost(where), error)
            # Alone with itself, and not without an agreement: then Lightning would broadcast before each batch, and the
            # others would not.
            store = HashStore()
        if store is None:
            return None
        has_ended = end_of_group() if world_size > 1 else lambda: False
        store = PrefixStore(f"sigterm/{next(_numbers)}", store)
        _made[group] = StopAgreement(store, rank, world_size, where, folder=folder, has_ended=has_ended)
    return _made[group]


class StopAgreement:
    """One rank's part in the agreement.

    Args:
        store: Where the ranks meet; used by this alone.
        rank: Rank of this process.
        world_size: Number of processes.
        where: Host and rank in words.
        folder: Tells where checkpoints will be; called on rank 0 alone.
        has_ended: Whether the group of these ranks has ended, and perhaps the store with it: nothing is asked then.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world_size: int,
        where: str,
        *,
        folder: Callable[[], Path | None] = lambda: None,
        has_ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self.origin = ""  # where SIGTERM arrived first; empty while no rank has got it
        self._store = store
        self._rank = rank
        self._world_size = world_size
        self._where = where
        self._folder = folder
        self._has_ended = has_ended
        self._passed = 0
        self._asked = False
        self._stop: Stop | None = None
        self._error = ""
        self._decided = threading.Event()
        # A queue, since its `put` may be called in a signal handler, an event's `set` not.
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._leaving = False
        self._pid = os.getpid()
        self._thread = background.start("sigterm", self._watch, _lost(where), self._decided.set)
        at_exit(self._leave)

    def request(self) -> bool:
        """Say that this rank got SIGTERM; for signal handlers.

        Returns:
            Whether anybody listens: not in a process that was forked from the rank's own and inherited its handler,
            and not after the store has ended.
        """
        heard = os.getpid() == self._pid and self._thread.is_alive()
        if heard:
            self._signals.put(True)
        return heard

    def stop_here(self) -> Stop | None:
        """Pass a step boundary; all ranks call this as often and in the same order.

        Returns:
            What was agreed, where all ranks stop at this step boundary or could have stopped at an earlier one.

        Raises:
            TimeoutError: SIGTERM arrived somewhere, but a rank does not answer.
        """
        self._passed += 1  # before the look below, as the thread reads the number after it has set what we look at
        return self._when_decided() if self._asked else None

    def _when_decided(self) -> Stop | None:
        self._decided.wait(2 * _PATIENCE)
        if self._stop is None:
            raise TimeoutError(
                f"SIGTERM arrived on {self.origin}, but the ranks could not agree on where to stop:"
                f" {self._error or 'no answer'}. No checkpoint was written. HINT: look for a rank that was killed or"
                " hangs."
            )
        return self._stop if self._passed >= self._stop.boundary else None

    def _watch(self) -> None:
        """Do everything that is not done at a step boundary; runs in the thread."""
        try:
            if self._wait_for_origin():
                self._asked = True
                write(self._store, f"passed/{self._rank}", self._passed)
                if self._rank == 0:
                    self._decide()
                number, folder = self._wait_for("rank 0", "stop", int, str)
                self._stop = Stop(number, folder or None)
                self._decided.set()
                while self._next_signal(None):
                    speak()
                    log.info("Another SIGTERM arrived on %s. The job is already ending.", self._where)
            self._leave_store()
        except (RuntimeError, TimeoutError) as error:  # the former of the store, which has ended with rank 0
            self._error = str(error)
            self._decided.set()
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise

    def _wait_for_origin(self) -> bool:
        """Wait for SIGTERM on any rank; false where this process or its group ends before."""
        while (origin := read(self._store, "origin", str)) is None:
            told = self._next_signal(_INTERVAL)
            if self._has_ended():
                return False
            if told:
                write_first(self._store, "origin", self._where)
            if self._leaving:
                return False
        (self.origin,) = origin
        return True

    def _leave_store(self) -> None:
        """Let rank 0, whose process may be the store's, end after the others: they would see a broken connection."""
        if self._has_ended():
            return
        others = Arrival(PrefixStore("left", self._store), self._world_size)
        others.arrive()
        if self._rank == 0:
            with suppress(TimeoutError):
                Wait(self._where, lambda: "the other ranks to end", limit=_GOODBYE).until(others.outcome)

    def _decide(self) -> None:
        passed = max(self._wait_for(f"rank {rank}", f"passed/{rank}", int)[0] for rank in range(self._world_size))
        folder = None
        try:
            folder = self._folder()
        except Exception as error:  # noqa: BLE001 - whatever stands in that file, it is no reason not to stop
            log.warning("The job's checkpoint folder is unknown, so SIGTERM leaves no checkpoint: %s", error)
        write(self._store, "stop", passed + 1, str(folder or ""))

    def _wait_for(self, who: str, key: str, *kinds: type) -> tuple[Any, ...]:
        def look() -> tuple[Any, ...] | None:
            if self._leaving:
                raise TimeoutError(f"this process ended before {who} answered")
            return read(self._store, key, *kinds)

        return Wait(self._where, lambda: f"an answer of {who}", limit=_PATIENCE).until(look)

    def _next_signal(self, timeout: float | None) -> bool:
        try:
            return self._signals.get(timeout=timeout)
        except Empty:
            return False

    def _leave(self) -> None:
        """End the thread: what would run in it while the interpreter ends could abort the process."""
        if os.getpid() == self._pid:
            self._leaving = True
            self._signals.put(False)
            if self._thread.is_alive():
                self._thread.join(2 * _GOODBYE)


def _lost(where: str) -> str:
    return f"SIGTERM on {where} would now end the job without a checkpoint."
