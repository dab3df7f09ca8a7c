"""What the heartbeat knows of the other processes of this host, and of the other hosts."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker import processes
from lightning_sagemaker.store import look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_sagemaker.job import SageMakerJob
    from lightning_sagemaker.store import Store


@dataclass(frozen=True)
class Process:
    """Another process of this host.

    Attributes:
        rank: Its rank.
        pid: Its process id.
        start: What tells it from a later process of this id.
    """

    rank: int
    pid: int
    start: str | None

    def is_stopped(self) -> bool:
        """Whether a signal or a tracer has stopped it."""
        return processes.is_stopped(self.pid) and processes.start_of(self.pid) == self.start

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return processes.has_ended(self.pid, self.start)

    def kill(self) -> None:
        """End it: a stopped process obeys nothing else, and its launcher waits for it."""
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)


class Siblings:
    """The other processes of this host, beginning with the next one; each is known once it has told its number.

    Nobody waits for one that never does: it was killed before, or its heartbeat is off.
    """

    def __init__(self, store: Store, ranks: Sequence[int]) -> None:
        self._store = store
        self._ranks = ranks
        self.known: dict[int, Process] = {}

    def look(self) -> None:
        """Ask the store for those that are not known; may hang where the store's host is cut off."""
        for rank in self.missing():
            if (told := look(self._store, f"process/{rank}")) is not None:
                number, _, start = told.decode().partition(" ")
                self.known[rank] = Process(rank, int(number), start)

    def missing(self) -> list[int]:
        """Ranks that have not told their numbers."""
        return [rank for rank in self._ranks if rank not in self.known]

    @property
    def next(self) -> Process | None:
        """The one that this process looks after."""
        return self.known.get(self._ranks[0]) if self._ranks else None


class Hosts:
    """What the hosts tell each other at the store. Each method may hang where the store's host is cut off."""

    def __init__(self, job: SageMakerJob, store: Store) -> None:
        self._store = store
        self._here = job.node_rank
        self._next = (job.node_rank + 1) % job.num_nodes
        self._beats = 0
        self.next_name = ""
        self.next_step = ""
        self.next_left = False
        self.heard: float | None = None  # when the next host was, by the observer's clock; None before the first time
        self.answered = 0.0  # when the store was
        self.ended = ""  # why another host has ended the job
        store.set(f"name/{self._here}", job.current_host)

    def exchange(self, now: float, step: str) -> None:
        """Count, and see whether the next host did.

        Args:
            now: Time by the observer's clock.
            step: At which step this process is, in words.
        """
        store, then = self._store, self._beats
        store.add(f"beats/{self._here}", 1)
        store.set(f"step/{self._here}", step)
        self._beats = store.add(f"beats/{self._next}", 0)
        if self._beats != then:
            self.heard = now
            self.next_name = self.next_name or store.get(f"name/{self._next}").decode()
            self.next_step = store.get(f"step/{self._next}").decode()
        self.next_left = look(store, f"left/{self._next}") is not None
        self.ended = (look(store, "ended") or b"").decode() or self.ended
        self.answered = now

    def leave(self) -> None:
        """Say that this host's silence is no alarm from now on."""
        self._store.set(f"left/{self._here}", "")

    def end(self, text: str) -> None:
        """Let the others end too."""
        with suppress(RuntimeError):  # they have no store any more, and learn of it in their own way
            self._store.set("ended", text)
