"""How the processes of a job find each other: a store at the main address, where nobody waits in silence.

In torch's own way to a process group (``env://``) all waiting happens inside one C++ call: rank 0 waits for the others,
the others for rank 0, up to the group's time limit, and a blocked port looks like a late host.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.connection import DEFAULT_LIMIT, VARIABLE
from lightning_sagemaker.distributed.interface import address_in_network, check_interfaces
from lightning_sagemaker.distributed.main_address import wait_for_main_address
from lightning_sagemaker.distributed.peer_connections import check_peer_connections
from lightning_sagemaker.distributed.store import PrefixStore, Store, TCPStore, prefixed
from lightning_sagemaker.distributed.wait_for_ranks import wait_for_ranks
from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.settings import seconds as setting

if TYPE_CHECKING:
    from datetime import timedelta

_rendezvous = itertools.count()  # all ranks make their groups in the same order


def limit_of(job: SageMakerJob) -> float:
    """Seconds of no answer at all after which this job ends; 0 where nothing is to be checked.

    Raises:
        ValueError: The setting is malformed.
    """
    return setting(VARIABLE, DEFAULT_LIMIT) if job.num_nodes > 1 else 0.0


def open_store(
    job: SageMakerJob, rank: int, world_size: int, *, timeout: timedelta, limit: float, speaks: bool
) -> TCPStore:
    """Listen at the main address, or wait for it, and connect.

    Args:
        job: The job, with main address and port.
        rank: Rank of this process among those that join; rank 0 listens.
        world_size: Number of processes that join.
        timeout: Time limit of the process group.
        limit: Seconds of no answer at all after which the main address counts as blocked.
        speaks: Whether this process is the one of its host that says what it waits for.

    Raises:
        ConnectionError: The main address is blocked.
        OSError: Rank 0 cannot listen there.
        TimeoutError: The main address did not open in time.
    """
    if rank != 0:
        wait_for_main_address(job, limit, timeout.total_seconds(), speaks=speaks)
    try:
        return TCPStore(
            job.main_address,
            job.main_port,
            world_size,
            is_master=rank == 0,
            timeout=timeout,
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        if rank != 0:
            raise
        raise OSError(
            f"Rank 0 cannot listen at {job.main_address}:{job.main_port} of {job.current_host}: {error}. HINT: another"
            " process holds the port, or MASTER_ADDR is not a name of this host."
        ) from error


def join(
    job: SageMakerJob, store: Store, *, rank: int, world_size: int, timeout: timedelta, limit: float, backend: str
) -> None:
    """Wait at the store until all processes have joined, and let each host connect to the next one.

    Args:
        job: The job.
        store: What all processes are connected to.
        rank: Rank of this process.
        world_size: Number of processes.
        timeout: Time limit of the process group.
        limit: Seconds of no answer at all after which the network between two hosts counts as blocked.
        backend: Backend of the process group.

    Raises:
        ConnectionError: A host does not reach the next one.
        TimeoutError: Somebody has not joined in time.
        ValueError: A network interface is named that does not exist.
    """
    check_interfaces(job, backend)  # before anybody waits for this process
    address = address_in_network(job)
    here = PrefixStore(f"rendezvous/{next(_rendezvous)}", prefixed(store))
    first, seconds = job.local_rank == 0, timeout.total_seconds()
    wait_for_ranks(job, PrefixStore("ranks", here), rank=rank, world_size=world_size, timeout=seconds, speaks=first)
    check_peer_connections(job, PrefixStore("hosts", here), address, limit=limit, timeout=seconds, first_of_host=first)


def rendezvous_of_agents(address: str, port: int, rank: int, hosts: int, timeout: timedelta) -> TCPStore | None:
    """Let torchrun's agents, one per host, find each other in the same way: they come before any user code.

    Args:
        address: Name or address of the host of the first agent.
        port: Port of its store.
        rank: This agent's host among those of the world.
        hosts: Number of hosts.
        timeout: Time limit of torchrun's rendezvous.

    Returns:
        The store, or ``None`` where there is nothing to check and torchrun makes it by itself.

    Raises:
        ConnectionError: The main address is blocked.
        OSError: The first agent cannot listen there.
        TimeoutError: Somebody has not joined in time.
        ValueError: The job or a setting is malformed.
    """
    job = SageMakerJob.detect()
    if job is None or hosts == 1 or len(job.world_hosts) != hosts:
        return None
    job = replace(job, main_address=address, main_port=port, num_nodes=hosts, node_rank=rank)
    limit = limit_of(job)
    if not limit:
        return None
    store = open_store(job, rank, hosts, timeout=timeout, limit=limit, speaks=True)
    agents = PrefixStore("agents", prefixed(store))
    wait_for_ranks(job, agents, rank=rank, world_size=hosts, timeout=timeout.total_seconds(), speaks=True)
    return store
