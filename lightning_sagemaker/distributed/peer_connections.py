"""A connection from each host to the next, on an arbitrary port: are all ports open, or only the main one?

Collectives open connections between all hosts, on ports that the system chooses. Where a network lets only the main
port through, gloo waits for five times its time limit and then names neither host nor port (measured, torch 2.13).
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.connection import FIRST_LINE, Answer, blocked, try_to_connect, warn_blocked
from lightning_sagemaker.distributed.store import Arrival, read, write
from lightning_sagemaker.distributed.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob


def check_peer_connections(job: SageMakerJob, store: Store, address: str, limit: float, timeout: float) -> None:
    """Connect the first process of each host to the next host; all processes wait for the outcome.

    ``limit`` seconds of no answer are a ConnectionError, with the same text in all processes.
    """
    all_hosts = Arrival(store, job.num_nodes)
    what = lambda: f"the other hosts to connect: {all_hosts.arrived} of {job.num_nodes} have"  # noqa: E731
    wait = Wait(job.current_host, what, limit=timeout, hint="HINT: look at their logs.", speaks=job.local_rank == 0)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        if job.local_rank == 0:
            listener.bind((address, 0))
            listener.listen()  # the kernel answers; nobody needs to accept
            write(store, f"at/{job.node_rank}", job.current_host, *listener.getsockname()[:2])
            next_rank = (job.node_rank + 1) % job.num_nodes
            there = wait.until(lambda: read(store, f"at/{next_rank}", str, str, int))
            if failure := wait.until(_attempts(job, all_hosts, limit, there)):
                all_hosts.fail(failure)
            else:
                all_hosts.arrive()
        if failure := wait.until(all_hosts.outcome):
            raise ConnectionError(failure)


def _attempts(
    job: SageMakerJob, all_hosts: Arrival, limit: float, next_host: tuple[str, str, int]
) -> Callable[[], str | None]:
    """Make a function that tries to connect to the next host: why that failed for good, or empty once it is done."""
    start, has_warned = time.monotonic(), False
    there, address, port = next_host

    def connect() -> str | None:
        nonlocal has_warned
        answer = try_to_connect(address, port)
        if answer is Answer.OPEN or all_hosts.outcome() is not None:  # the latter where another host has failed
            return ""
        silence = time.monotonic() - start
        main = try_to_connect(job.main_address, job.main_port)
        tried = f"but the main address {job.main_address}:{job.main_port} " + (
            "answers, so only some ports are open" if main is Answer.OPEN else "does not answer now either"
        )
        if answer is Answer.REFUSED:
            tried = f"it was refused, although {there} listens there: the traffic goes to another machine; {tried}"
        text = blocked(job, there, f"{address}:{port}", silence, tried)
        if silence >= limit:
            return text
        if silence >= FIRST_LINE and not has_warned:
            has_warned = True
            warn_blocked(text, limit)
        return None

    return connect
