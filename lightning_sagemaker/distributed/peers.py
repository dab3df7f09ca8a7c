"""State that the heartbeat keeps about the other processes of this host, and about the other hosts."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_sagemaker import processes
from lightning_sagemaker.distributed.store import decode, raw_value, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob


@dataclass(frozen=True)
class Process:
    """Another process of this host; its start tells it from a later process of the same id."""

    rank: int
    pid: int
    start: str

    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped the process."""
        return processes.is_stopped(self.pid) and processes.start_of(self.pid) == self.start

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return processes.has_ended(self.pid, self.start)

    def kill(self) -> None:
        """Kill the process: a stopped one obeys nothing else, and its launcher waits for it."""
        processes.send(self.pid, signal.SIGKILL, lambda: processes.start_of(self.pid) == self.start)


@dataclass
class Siblings:
    """The other processes of this host, beginning with the next; each is known once it has reported its process id."""

    _store: Store
    _ranks: Sequence[int]
    known: dict[int, Process] = field(default_factory=dict)

    def poll(self) -> None:
        """Ask the store for processes that are not known yet; may hang if the host of the store is cut off."""
        for rank in self.missing():
            if (told := read(self._store, f"process/{rank}", int, str)) is not None:
                self.known[rank] = Process(rank, *told)

    def missing(self) -> list[int]:
        """Ranks that have not reported their process id."""
        return [rank for rank in self._ranks if rank not in self.known]

    @property
    def next(self) -> Process | None:
        """The process that this one watches."""
        return self.known.get(self._ranks[0]) if self._ranks else None


@dataclass
class Hosts:
    """Heartbeats of the hosts, at the store. Each method may hang if the host of the store is cut off."""

    _job: SageMakerJob
    _store: Store
    _connect: Callable[[], Store | None] = lambda: None  # anew to the store, if that is still there
    _beats: int = 0
    _found: bytes | None = None
    next_step: str = ""
    next_left: bool = False
    heard: float | None = None  # when the next host was, by the observer's clock; None before the first time
    answered: float = 0.0  # when the store was
    ended: str = ""  # why another host has ended the job

    def __post_init__(self) -> None:
        self._next = (self._job.node_rank + 1) % self._job.num_nodes
        self.next_name = f"The host of node rank {self._next}"

    def beat(self, step: str) -> None:
        """Send this host's heartbeat."""
        self._beats += 1
        # Several processes of a host write here: the number of each makes what it writes new.
        beat = (self._job.current_host, step, self._job.local_rank, self._beats)
        write(self._store, f"beat/{self._job.node_rank}", *beat)

    def exchange(self, now: float, step: str) -> None:
        """Send this host's heartbeat, and read that of the next host. ``now`` is by the observer's clock."""
        self.beat(step)
        found = raw_value(self._store, f"beat/{self._next}")
        if found is not None and found != self._found:
            self._found, self.heard = found, now
            # What no rank wrote says nothing of the next host, and is no silence of it.
            if (told := decode(found, str, str, int, int)) is not None:
                self.next_name, self.next_step = told[:2]
        else:  # who sends on has not left
            self.next_left = read(self._store, f"left/{self._next}") is not None
        self.ended = (read(self._store, "ended", str) or [self.ended])[0]
        self.answered = now

    def leave(self) -> None:
        """Announce that this host stops sending heartbeats, so that its silence is no error."""
        try:
            write(self._store, f"left/{self._job.node_rank}")
        except RuntimeError:  # the store has ended, or this connection alone
            if (store := self._connect()) is not None:
                write(store, f"left/{self._job.node_rank}")

    def end(self, text: str) -> None:
        """Tell the other hosts to end as well."""
        with suppress(RuntimeError):  # they have no store any more, and learn of it in their own way
            write(self._store, "ended", text)
