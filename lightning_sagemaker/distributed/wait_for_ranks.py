"""All processes report at the store; meanwhile each host says who is missing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from lightning_sagemaker.distributed.connection import PATIENCE, Answer, is_loopback, try_to_connect
from lightning_sagemaker.distributed.lines import EVERY, FIRST_LINE, blocked
from lightning_sagemaker.distributed.peer_notifier import notification
from lightning_sagemaker.distributed.store import wait_to_read, write, write_first
from lightning_sagemaker.job.values import some
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob

_ASKED_AT_ONCE = 16  # hosts; lines name eight
_ROUND = 4 * PATIENCE  # seconds that a question to all of them may take; names may be looked up for longer than that
_Answered = TypeVar("_Answered")


def wait_for_ranks(
    job: SageMakerJob, store: Store, *, rank: int, world_size: int, timeout: float, speaks: bool
) -> None:
    """Report at the store, and wait for the others.

    Args:
        job: The job.
        store: Where the processes report, with a prefix that no other roll call has.
        rank: This process among those called. Rank 0 asks missing hosts whether they are there at all.
        world_size: Number of processes called.
        timeout: Seconds that all may take.
        speaks: Whether this process is the one of its host that says who is missing.

    Raises:
        ConnectionError: A host cannot reach rank 0; the text is that host's.
        TimeoutError: The time is over; the message lists who is missing.
        ValueError: Two processes have the same rank; the same text on all.
    """
    claim = write_first(store, f"rank/{rank}", job.current_host)
    if store.add(f"claims/{rank}", 1) > 1:  # not counted: without it they never are all
        write(store, "complete", f"{claim} and {job.current_host} both have a process of rank {rank}")
    else:
        store.add(job.current_host, 1)
        if store.add("all", 1) == world_size:
            write(store, "complete", "")
    waiter = _Wait(job, store, rank, world_size, timeout, speaks=speaks)
    (clash,) = wait_to_read(store, "complete", str, each=waiter.look)
    if clash:
        raise ValueError(
            f"{clash}, in a world of {world_size} processes. HINT: NODE_RANK has to be another number on each host,"
            " from 0; or remove it from the job's environment and from your entry script: it is derived from the job."
        )


class _Wait:
    """What one process does while it waits: nothing at first, then it looks who is missing."""

    def __init__(
        self, job: SageMakerJob, store: Store, rank: int, world_size: int, timeout: float, *, speaks: bool
    ) -> None:
        self._job = job
        self._store = store
        self._per_host = world_size // job.num_nodes
        self._timeout = timeout
        self._speaks = speaks
        self._asks = rank == 0 and not is_loopback(job.main_address)  # hosts on one machine have no names
        self._start = self._looked = self._said = time.monotonic()
        self._silent_since: dict[str, float] = {}
        self._named: set[str] = set()
        self._pool = ThreadPoolExecutor(_ASKED_AT_ONCE)

    def look(self) -> None:
        now = time.monotonic()
        if now - self._start >= self._timeout:
            raise TimeoutError(
                f"{self._job.current_host} waited {self._timeout:.0f} s, the process group's time limit, for all"
                f" processes of the job. {self._missing()}. HINT: look at the logs of those hosts; where hosts start"
                " further apart than that, give the strategy a longer `timeout`."
            )
        if self._asks and now - self._looked >= FIRST_LINE / 2:
            self._look_at_the_missing()
            self._looked = time.monotonic()
        if self._speaks and now - self._said >= EVERY:
            self._said = now
            log.warning("%s has waited %.0f s. %s.", self._job.current_host, now - self._start, self._missing())

    def _look_at_the_missing(self) -> None:
        """Name hosts that do not answer, and repeat what those say that cannot reach this one."""
        answers = self._of_each(try_to_connect, [host for host, came in self._absent().items() if not came])
        asked = time.monotonic()
        silent = [host for host, answer in answers.items() if answer is Answer.SILENT]
        self._silent_since = {host: self._silent_since.get(host, self._looked) for host in silent}
        for host, since in self._silent_since.items():
            if asked - since >= FIRST_LINE:
                address = f"{host}:{self._job.main_port}"
                tried = "it has not reported here either, so it may also still be starting"
                interface = self._job.network_interface
                text = blocked(self._job.current_host, host, address, asked - since, tried=tried, interface=interface)
                self._say_once(host, text)
        said = self._of_each(notification, [host for host, answer in answers.items() if answer is Answer.OPEN])
        for host, (text, ends) in said.items():
            if ends:
                raise ConnectionError(text)
            if text:
                self._say_once(host, text)

    def _say_once(self, host: str, text: str) -> None:
        if host not in self._named:
            self._named.add(host)
            log.warning(text)

    def _missing(self) -> str:
        absent = self._absent()
        answers = (
            self._of_each(try_to_connect, [host for host, came in absent.items() if not came]) if self._asks else {}
        )
        states = [
            f"{host} ({came} of {self._per_host} processes came{f'; {answers[host].value}' if host in answers else ''})"
            for host, came in absent.items()
        ]
        return f"Missing: {some(states)}"

    def _absent(self) -> dict[str, int]:
        """Hosts whose processes have not all come, and how many have."""
        came = {host: self._store.add(host, 0) for host in self._job.world_hosts}
        return {host: number for host, number in came.items() if number < self._per_host}

    def _of_each(self, question: Callable[[str, int], _Answered], hosts: list[str]) -> dict[str, _Answered]:
        """Ask hosts beside each other; those that have not answered within a limit for all are left out."""
        asked = {host: self._pool.submit(question, host, self._job.main_port) for host in hosts[:_ASKED_AT_ONCE]}
        answered, late = wait(asked.values(), _ROUND)
        for future in late:
            future.cancel()
        return {host: future.result() for host, future in asked.items() if future in answered}
