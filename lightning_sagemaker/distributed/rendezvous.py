"""The rendezvous: the processes of a job find each other at a store at the main address, and every wait writes lines.

In torch's own way to a process group (``env://``) all waiting happens inside one C++ call: rank 0 waits for the others,
the others for rank 0, up to the group's time limit, and a blocked port looks like a late host.
"""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.distributed.distributed_c10d import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.distributed import heartbeat
from lightning_sagemaker.distributed.interface import address_in_network, check_interfaces, set_gloo_interface
from lightning_sagemaker.distributed.reachability import check_peer_connections, wait_for_agents, wait_for_main_address
from lightning_sagemaker.distributed.shutdown import end_at_exit
from lightning_sagemaker.distributed.store import PrefixStore, Store, TCPStore, prefixed
from lightning_sagemaker.distributed.wait_for_ranks import wait_for_ranks
from lightning_sagemaker.environment import SageMakerEnvironment
from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.settings import REACHABILITY, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

_OF_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")
# All ranks make their groups in the same order; not each has a rendezvous.
_groups, _rendezvous = itertools.count(), itertools.count()


@contextmanager
def watched(
    environment: object, rank: int, world_size: int, timeout: timedelta | None, backend: str
) -> Iterator[dict[str, Any]]:
    """Around ``init_process_group``, whose arguments these are: waits before it, heartbeat and quiet end after it.

    It yields what to give to that function besides. Where the cluster environment is not ours, only the end is quiet.
    """
    job: SageMakerJob | None = None
    options: dict[str, Any] = {}
    if isinstance(environment, SageMakerEnvironment):
        job = replace(environment.current_job(), rank=rank, world_size=world_size)
        if is_on("gloo_interface"):
            set_gloo_interface(job, os.environ)
        if (store := _store(job, timeout or default_pg_timeout, backend)) is not None:
            options["store"] = store
    yield options
    if is_on("quiet_end"):
        end_at_exit()
    if job is not None and is_on("heartbeat"):
        heartbeat.start(job)


def _store(job: SageMakerJob, timeout: timedelta, backend: str) -> Store | None:
    """Store at which the processes of a new group find each other; ``None`` if torch finds it by itself."""
    number, is_restarted = next(_groups), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    has_agents = job.launcher == "torchrun"  # they have joined already, and keep one store for all groups and attempts
    is_again = has_agents and (number > 0 or is_restarted) and is_on("group_keys")
    limit = limit_of(job) if is_on("rendezvous") else 0.0
    if not limit and not is_again:
        return None
    if has_agents:
        if limit and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            wait_for_agents(job, limit)
        # As Lightning sets them a moment later: torchrun need not have, on one host.
        os.environ.update(MASTER_ADDR=job.main_address, MASTER_PORT=str(job.main_port))
        store: Store = next(rendezvous("env://", job.rank or 0, job.world_size or 1, timeout=timeout))[0]
    else:
        store = open_store(job, timeout, limit)
    store.set_timeout(timeout)
    if limit:
        check_interfaces(job, backend)  # before anybody waits for this process
        address, patience = address_in_network(job), timeout.total_seconds()
        here = PrefixStore(f"rendezvous/{next(_rendezvous)}", prefixed(store))
        wait_for_ranks(job, PrefixStore("ranks", here), patience)
        check_peer_connections(job, PrefixStore("hosts", here), address, limit, patience)
    # torch calls each default group "0": what the ranks of an earlier one have told would be read again.
    return PrefixStore(f"group/{number}", prefixed(store)) if is_again else store


def limit_of(job: SageMakerJob) -> float:
    """Seconds without any answer after which this job ends; 0 if connections are not checked."""
    return seconds(REACHABILITY) if job.num_nodes > 1 else 0.0


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


def rendezvous_of_agents(address: str, port: int, rank: int, hosts: int, timeout: timedelta) -> TCPStore | None:
    """The rendezvous of torchrun's agents, one per host; ``None`` where torchrun makes it by itself."""
    # torchrun says who the agents are; what their host's variables say of a rank is overwritten for the workers.
    job = SageMakerJob.detect({name: value for name, value in os.environ.items() if name not in _OF_RANKS})
    if job is None or hosts == 1 or len(job.world_hosts) != hosts or not (limit := limit_of(job)):
        return None
    job = replace(job, main_address=address, main_port=port, num_nodes=hosts, node_rank=rank)
    job = replace(job, rank=rank, world_size=hosts, local_rank=0)
    store = open_store(job, timeout, limit)
    wait_for_ranks(job, PrefixStore("agents", prefixed(store)), timeout.total_seconds())
    return store
