"""The rendezvous: the processes of a job find each other at a store at the main address, and every wait writes lines.

In torch's own way to a process group (``env://``) all waiting happens inside one C++ call: rank 0 waits for the others,
the others for rank 0, up to the group's time limit, and a blocked port looks like a late host.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.interface import address_in_network, check_interfaces
from lightning_sagemaker.distributed.main_address import wait_for_main_address
from lightning_sagemaker.distributed.peer_connections import check_peer_connections
from lightning_sagemaker.distributed.store import PrefixStore, Store, TCPStore, prefixed
from lightning_sagemaker.distributed.wait_for_ranks import wait_for_ranks
from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.settings import REACHABILITY
from lightning_sagemaker.settings import seconds as setting

if TYPE_CHECKING:
    from datetime import timedelta

_rendezvous = itertools.count()  # all ranks make their groups in the same order


def limit_of(job: SageMakerJob) -> float:
    """Seconds without any answer after which this job ends; 0 if connections are not checked."""
    return setting(REACHABILITY) if job.num_nodes > 1 else 0.0


def open_store(job: SageMakerJob, timeout: timedelta, limit: float) -> TCPStore:
    """Listen at the main address on rank 0, wait for it on the others, and connect."""
    is_first = job.rank == 0
    if not is_first:
        wait_for_main_address(job, limit, timeout.total_seconds())
    address, port = job.main_address, job.main_port
    try:
        options = {"is_master": is_first, "wait_for_workers": False, "multi_tenant": True}
        return TCPStore(address, port, job.world_size, timeout=timeout, **options)
    except RuntimeError as error:
        if not is_first:
            raise
        raise OSError(
            f"Rank 0 cannot listen at {address}:{port} of {job.current_host}: {error}. HINT: another process holds the"
            " port, or MASTER_ADDR is not a name of this host."
        ) from error


def join(job: SageMakerJob, store: Store, timeout: timedelta, limit: float, backend: str) -> None:
    """Wait at the store until all processes have joined, and connect each host to the next one."""
    check_interfaces(job, backend)  # before anybody waits for this process
    address, seconds = address_in_network(job), timeout.total_seconds()
    here = PrefixStore(f"rendezvous/{next(_rendezvous)}", prefixed(store))
    wait_for_ranks(job, PrefixStore("ranks", here), seconds)
    check_peer_connections(job, PrefixStore("hosts", here), address, limit, seconds)


def rendezvous_of_agents(address: str, port: int, rank: int, hosts: int, timeout: timedelta) -> TCPStore | None:
    """The rendezvous of torchrun's agents, one per host, done in the same way: they start before any user code.

    ``None`` where there is nothing to check and torchrun makes it by itself.
    """
    job = SageMakerJob.detect()
    if job is None or hosts == 1 or len(job.world_hosts) != hosts or not (limit := limit_of(job)):
        return None
    job = replace(job, main_address=address, main_port=port, num_nodes=hosts, node_rank=rank)
    job = replace(job, rank=rank, world_size=hosts, local_rank=0)
    store = open_store(job, timeout, limit)
    wait_for_ranks(job, PrefixStore("agents", prefixed(store)), timeout.total_seconds())
    return store
