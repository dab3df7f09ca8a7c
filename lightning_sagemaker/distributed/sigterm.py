"""SIGTERM: all ranks stop at the same step, whichever of them received it.

Lightning's own handler runs a collective inside the signal handler (since 2.5.6), which deadlocks where one rank alone
got the signal, and a broadcast before each batch; older versions let each rank stop at a step of its own. Here nothing
of the kind runs in the training: each rank counts the *step boundaries* that it passes, one per batch, and a thread
beside the training does the rest over the process group's store:

1. A rank that got SIGTERM says so, to its host; the first process of the host says so to the others.
2. Each rank tells its host how many step boundaries it has passed; from then on it waits at its next one for the
   decision. The first process of each host tells the largest number to the others.
3. Rank 0 takes the largest number plus one: the first step boundary that no rank has passed.

So one process of each host asks the store, and the larger the world the more rarely: issue 23. Those of a host read a
file of the host's own, which is there once somebody has got SIGTERM. A first process that dies or is stopped ends or
stops the training for all, as any rank does: nobody has to take over from it. All ranks pass step boundaries and
collectives in the same order, so the waits are short, and cannot form a circle.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch.distributed as dist

from lightning_sagemaker.distributed import background
from lightning_sagemaker.distributed.participants import HostStore, Participants, first_ranks, ranks_of_host
from lightning_sagemaker.distributed.shutdown import at_exit
from lightning_sagemaker.distributed.store import (
    Arrival,
    end_of_group,
    read,
    server_of_group,
    write,
    write_first,
)
from lightning_sagemaker.distributed.waiting import Wait, leave_store
from lightning_sagemaker.messages import log, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning_sagemaker.job import SageMakerJob

EXIT_CODE = 128 + 15  # what a shell calls the end by SIGTERM; 0 would be a success to SageMaker
_INTERVAL = 0.5  # seconds between two reads of the host's file
_SHORTEST = 1.0  # seconds between two reads of the store, in a small world
_HOSTS_PER_SECOND = 250  # that ask the store
_LONGEST = 3.9  # seconds between two reads of the store; with one of the file on each side, all know of it within 5 s
_PATIENCE = 60.0  # seconds that a rank may take to answer
_GOODBYE = 2.0  # seconds that rank 0 waits for the others at its end

_made: WeakKeyDictionary[object, StopAgreement] = WeakKeyDictionary()  # by process group, and one of this process alone
_numbers = itertools.count()  # all ranks make their agreements in the same order, as they make groups


@dataclass(frozen=True)
class Stop:
    """Where all ranks have agreed to stop."""

    boundary: int  # number of the step boundary at which all stop, from 1
    folder: str | None  # where the checkpoint will be, the same on all hosts; ``None`` where rank 0 has no such folder


def interval(hosts: int) -> float:
    """Seconds between two requests of a host to the store of rank 0; longer with more hosts."""
    return max(_SHORTEST, min(hosts / _HOSTS_PER_SECOND, _LONGEST))


def agreement(job: SageMakerJob, folder: Callable[[], Path | None]) -> StopAgreement | None:
    """The agreement of the default process group's ranks, or of a single process; ``None`` without a TCP server.

    There is one for each group. ``folder`` tells where checkpoints will be; it is called on rank 0 alone.
    """
    world_size = job.world_size or 1
    group = dist.group.WORLD if world_size > 1 else StopAgreement
    if group not in _made:
        if world_size > 1 and server_of_group() is None:
            return None
        where, prefix = f"{job.current_host}, rank {job.rank}", f"sigterm/{next(_numbers)}"
        timeout = timedelta(seconds=_PATIENCE)
        ranks, hosts = ranks_of_host(job, prefix, _lost(where), timeout), None
        if world_size > 1 and job.num_nodes > 1 and job.local_rank == 0:
            hosts = partial(first_ranks, job, prefix, _lost(where), timeout)
        has_ended = end_of_group() if world_size > 1 else lambda: False
        _made[group] = StopAgreement(ranks, where, connect=hosts, folder=folder, has_ended=has_ended)
    return _made[group]


@dataclass(eq=False)
class StopAgreement:
    """One rank's part in the agreement on where to stop."""

    ranks: Participants
    where: str
    _: KW_ONLY
    # To the first ranks of all hosts, where this one is such and there are several; it takes 5 s where names cannot be
    # looked up, so the thread calls it.
    connect: Callable[[], Participants] | None = None
    folder: Callable[[], Path | None] = lambda: None
    has_ended: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.origin = ""  # where SIGTERM arrived first, as far as this host knows; empty while no rank has got it
        self._hosts: Participants | None = None
        self._connected = threading.Event()
        self._asks_again = 0.0
        self.passed = 0  # step boundaries
        self._asked = False
        self._stop: Stop | None = None
        self._error = ""
        self._decided = threading.Event()
        # A queue, since its `put` may be called in a signal handler, an event's `set` not.
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._leaving = False
        self._pid = os.getpid()
        self._thread = background.start("sigterm", self._watch, _lost(self.where), self._decided.set)
        at_exit(self._leave)

    def request(self) -> bool:
        """Record SIGTERM, also in a signal handler. False in a forked child, and after the store has ended."""
        heard = os.getpid() == self._pid and self._thread.is_alive()
        if heard:
            self._signals.put(True)
        return heard

    def stop_here(self) -> Stop | None:
        """Called at each step boundary, by all ranks equally often: what was agreed, from the agreed boundary on.

        A TimeoutError where SIGTERM arrived somewhere, but a rank does not answer.
        """
        self.passed += 1  # before the check below, as the thread reads the number after it has set what we check
        if not self._asked:
            return None
        self._decided.wait(2 * _PATIENCE)
        if self._stop is None:
            raise TimeoutError(
                f"SIGTERM arrived on {self.origin}, but the ranks could not agree on where to stop:"
                f" {self._error or 'no answer'}. No checkpoint was written. HINT: look for a rank that was killed or"
                " hangs."
            )
        return self._stop if self.passed >= self._stop.boundary else None

    def _watch(self) -> None:
        try:
            if self.connect is not None and not self.has_ended():
                self._hosts = self.connect()
            self._connected.set()
            if self._wait_for_origin():
                self._asked = True
                ranks = self.ranks
                write(ranks.store, f"passed/{ranks.number}", self.passed)
                if ranks.number == 0:
                    write(ranks.store, "stop", *self._decide())
                number, folder = self._wait_for(ranks, 0, "stop", int, str)
                self._stop = Stop(number, folder or None)
                self._decided.set()
                while self._next_signal(None):
                    say("Another SIGTERM arrived on %s. The job is already ending.", self.where)
            self._leave_stores()
        except (RuntimeError, TimeoutError) as error:  # the former of the store, which has ended with rank 0
            self._error = str(error)
            self._decided.set()
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._connected.set()

    def _wait_for_origin(self) -> bool:
        """Wait for SIGTERM on any rank; false if this process or its group ends before."""
        while not self._poll_origin():
            told = self._next_signal(_INTERVAL)
            if self.has_ended():
                return False
            if told:
                write_first(self.ranks.store, "origin", self.where)
            if self._leaving:
                return False
        return True

    def _poll_origin(self) -> bool:
        here, hosts, now = read(self.ranks.store, "origin", str), self._hosts, time.monotonic()
        if hosts is not None and here is not None:
            write_first(hosts.store, "origin", here[0])
        elif hosts is not None and now >= self._asks_again:
            self._asks_again = now + interval(len(hosts.ranks)) - _INTERVAL / 2  # not a request later
            if (here := read(hosts.store, "origin", str)) is not None:
                write_first(self.ranks.store, "origin", here[0])
        if here is not None:
            (self.origin,) = here
        return here is not None

    def _leave_stores(self) -> None:
        """Let rank 0, whose process may hold the store, end last: the others would see a broken connection."""
        store, size = self.ranks.store, len(self.ranks.ranks)
        if self.origin and Arrival(store, size).arrive() == size and isinstance(store, HostStore):
            store.path.unlink(missing_ok=True)
        if self._hosts is None or self.has_ended():
            return
        hosts, has_server = self._hosts, self._hosts.number == 0
        leave_store(hosts.store, len(hosts.ranks), self.where, has_server=has_server, limit=_GOODBYE)

    def _decide(self) -> tuple[Any, ...]:
        """Where all stop; called on the first rank of each host."""
        passed = self._largest(self.ranks)
        if (hosts := self._hosts) is not None:
            write(hosts.store, f"passed/{hosts.number}", passed)
            if hosts.number > 0:
                return self._wait_for(hosts, 0, "stop", int, str)
            passed = self._largest(hosts)
        decision = passed + 1, self._checkpoint_folder()
        if hosts is not None:
            write(hosts.store, "stop", *decision)
        return decision

    def _largest(self, participants: Participants) -> int:
        numbers = range(len(participants.ranks))
        return max(int(*self._wait_for(participants, number, f"passed/{number}", int)) for number in numbers)

    def _checkpoint_folder(self) -> str:
        try:
            return str(self.folder() or "")
        except Exception as error:  # noqa: BLE001 - whatever stands in that file, it is no reason not to stop
            log.warning("The job's checkpoint folder is unknown, so SIGTERM leaves no checkpoint: %s", error)
            return ""

    def _wait_for(self, participants: Participants, number: int, key: str, *kinds: type) -> tuple[Any, ...]:
        who = f"rank {participants.ranks[number]}"

        def poll() -> tuple[Any, ...] | None:
            if self._leaving:
                raise TimeoutError(f"this process ended before {who} answered")
            return read(participants.store, key, *kinds)

        return Wait(self.where, lambda: f"an answer of {who}", limit=_PATIENCE).until(poll)

    def _next_signal(self, timeout: float | None) -> bool:
        try:
            return self._signals.get(timeout=timeout)
        except Empty:
            return False

    def _leave(self) -> None:
        """End the thread: code that ran in it while the interpreter ends could abort the process."""
        if os.getpid() == self._pid:
            self._leaving = True
            self._signals.put(False)
            if self._thread.is_alive():
                self._connected.wait(_PATIENCE)  # 5 s where names cannot be looked up
                self._thread.join(2 * _GOODBYE)


def _lost(where: str) -> str:
    return f"SIGTERM on {where} would now end the job without a checkpoint."
