"""One connection from each host to the next, on a port of any number: are all ports open, or only the main one?

Collectives open connections between all hosts, on ports that the system chooses. Where a network lets only the main
port through, gloo waits for five times its time limit and then names neither host nor port (measured, torch 2.13).
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.connection import Answer, try_to_connect
from lightning_sagemaker.distributed.lines import FIRST_LINE, VARIABLE, blocked
from lightning_sagemaker.distributed.store import read, wait_to_read, write
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob


def check_peer_connections(job: SageMakerJob, store: Store, address: str, limit: float, *, first_of_host: bool) -> None:
    """Let the first process of each host connect to the next host; all processes wait for the outcome.

    Args:
        job: The job, of two hosts or more.
        store: Where the ports are published, with a prefix that no other check has.
        address: Address of this host, to which collectives will connect.
        limit: Seconds of no answer at all after which the network counts as blocked.
        first_of_host: Whether this process is the first one of its host.

    Raises:
        ConnectionError: A host does not reach the next one; the same text in all processes.
    """
    if not first_of_host:
        _await_outcome(store)
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()  # the kernel answers; nobody needs to accept
        write(store, f"at/{job.node_rank}", job.current_host, *listener.getsockname()[:2])
        failure = _reach_next(job, store, limit)
        if failure:
            write(store, "outcome", failure)
        elif store.add("passed", 1) == job.num_nodes:
            write(store, "outcome", "")
        _await_outcome(store)


def _reach_next(job: SageMakerJob, store: Store, limit: float) -> str:
    """Why the next host cannot be reached; empty where it can."""
    there, address, port = wait_to_read(store, f"at/{(job.node_rank + 1) % job.num_nodes}", str, str, int)
    start, said = time.monotonic(), False
    while (answer := try_to_connect(address, port)) is not Answer.OPEN:
        silence = time.monotonic() - start
        other = try_to_connect(job.main_address, job.main_port)
        tried = f"but the main address {job.main_address}:{job.main_port} " + (
            "answers, so only some ports are open" if other is Answer.OPEN else "does not answer now either"
        )
        if answer is Answer.REFUSED:
            tried = f"it was refused, although {there} listens there: the traffic goes to another machine; {tried}"
        text = blocked(
            job.current_host, there, f"{address}:{port}", silence, tried=tried, interface=job.network_interface
        )
        if silence >= limit:
            return text
        if not said and silence >= FIRST_LINE:
            said = True
            log.warning("%s The job ends after %.0f s of this (%s).", text, limit, VARIABLE)
        if read(store, "outcome", str) is not None:
            return ""  # another host has failed
        time.sleep(0.2)
    return ""


def _await_outcome(store: Store) -> None:
    (failure,) = wait_to_read(store, "outcome", str)
    if failure:
        raise ConnectionError(failure)
