"""The wait at the store until all processes have joined; meanwhile each host names those that are missing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lightning_sagemaker.distributed import reachability
from lightning_sagemaker.distributed.interface import is_loopback
from lightning_sagemaker.distributed.store import Arrival, write_first
from lightning_sagemaker.distributed.waiting import Wait, leave_store
from lightning_sagemaker.job.values import some
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob

    Answered = TypeVar("Answered")

_AT_ONCE = 16  # hosts that are asked at a time; lines name eight
_ROUND = 4 * reachability.PATIENCE  # seconds that a question to all may take; names may be looked up for longer


def wait_for_ranks(job: SageMakerJob, store: Store, timeout: float) -> None:
    """Join at the store, and wait until all have; two processes of the same rank are a ValueError on all of them."""
    world_size = job.world_size or 1
    all_ranks, missing = Arrival(store, world_size), _MissingHosts(job, store, world_size // job.num_nodes)
    first = write_first(store, f"rank/{job.rank}", job.current_host)
    if store.add(f"claims/{job.rank}", 1) > 1:  # it does not arrive, so nobody goes on
        all_ranks.fail(f"{first} and {job.current_host} both have a process of rank {job.rank}")
    else:
        store.add(job.current_host, 1)
        all_ranks.arrive()

    def poll() -> str | None:
        outcome = all_ranks.outcome()
        if outcome is None:
            missing.ask()
        return outcome

    hint = "HINT: look at the logs of those hosts; where hosts start further apart, give the strategy a longer"
    what = lambda: f"all processes of the job. Missing: {missing}"  # noqa: E731 - as in the other waits
    wait_for_all = Wait(job.current_host, what, limit=timeout, hint=f"{hint} `timeout`.", speaks=job.local_rank == 0)
    if clash := wait_for_all.until(poll):
        leave_store(store, world_size, job.current_host, has_server=job.rank == 0)
        raise ValueError(
            f"{clash}, in a world of {world_size} processes. HINT: NODE_RANK must be a different number on each host,"
            " from 0; or remove it from the job's environment and from your entry script: it is derived from the job."
        )


@dataclass
class _MissingHosts:
    """The hosts whose processes have not all joined; its text says what is known about them."""

    _job: SageMakerJob
    _store: Store
    _per_host: int

    def __post_init__(self) -> None:
        # Rank 0 asks them whether they are there at all; hosts on one machine have no names.
        self._asks = self._job.rank == 0 and not is_loopback(self._job.main_address)
        self._asked = time.monotonic()
        self._silent_since: dict[str, float] = {}
        self._named: set[str] = set()
        self._pool = ThreadPoolExecutor(_AT_ONCE)

    def __str__(self) -> str:
        joined, states = self._joined(), []
        answers = self._answers(joined) if self._asks else {}
        for host, count in joined.items():
            answer = f"; {answers[host].value}" if host in answers else ""
            states.append(f"{host} ({count} of {self._per_host} processes have joined{answer})")
        return some(states)

    def ask(self) -> None:
        """Name hosts that do not answer, and repeat the messages of those that cannot reach this one."""
        if not self._asks or time.monotonic() - self._asked < reachability.FIRST_LINE / 2:
            return
        before = self._asked
        answers = self._answers(self._joined())
        self._asked = time.monotonic()
        silent = [host for host, answer in answers.items() if answer is reachability.Answer.SILENT]
        self._silent_since = {host: self._silent_since.get(host, before) for host in silent}
        for host, since in self._silent_since.items():
            if self._asked - since >= reachability.FIRST_LINE:
                tried = "it has not joined here either, so it may also still be starting"
                address = f"{host}:{self._job.main_port}"
                self._warn_once(host, reachability.blocked(self._job, host, address, self._asked - since, tried))
        is_open = [host for host, answer in answers.items() if answer is reachability.Answer.OPEN]
        told = self._of_each(reachability.notification, is_open)
        for host, (text, ends) in told.items():
            if ends:
                raise ConnectionError(text)
            if text:
                self._warn_once(host, text)

    def _warn_once(self, host: str, text: str) -> None:
        if host not in self._named:
            self._named.add(host)
            log.warning(text)

    def _joined(self) -> dict[str, int]:
        """For each host with missing processes, how many have joined."""
        joined = {host: self._store.add(host, 0) for host in self._job.world_hosts}
        return {host: count for host, count in joined.items() if count < self._per_host}

    def _answers(self, joined: dict[str, int]) -> dict[str, reachability.Answer]:
        return self._of_each(reachability.try_to_connect, [host for host, count in joined.items() if not count])

    def _of_each(self, question: Callable[[str, int], Answered], hosts: list[str]) -> dict[str, Answered]:
        """Ask several hosts at once; those that do not answer within a common limit are left out."""
        asked = {host: self._pool.submit(question, host, self._job.main_port) for host in hosts[:_AT_ONCE]}
        answered, late = wait(asked.values(), _ROUND)
        for future in late:
            future.cancel()
        return {host: future.result() for host, future in asked.items() if future in answered}
