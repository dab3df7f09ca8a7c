"""What happens around the making of a process group in a SageMaker training job."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.distributed.distributed_c10d import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.distributed import heartbeat
from lightning_sagemaker.distributed.interface import set_gloo_interface
from lightning_sagemaker.distributed.rendezvous import join, limit_of, open_store
from lightning_sagemaker.distributed.shutdown import end_at_exit
from lightning_sagemaker.distributed.store import PrefixStore, prefixed
from lightning_sagemaker.environment import SageMakerEnvironment, mark_rank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob

_groups = itertools.count()  # all ranks make their groups in the same order


@contextmanager
def watched(
    environment: object, rank: int, world_size: int, timeout: timedelta | None, backend: str
) -> Iterator[dict[str, Any]]:
    """Let a process group be made: nobody waits in silence before, and none goes silent unnoticed afterwards.

    Args:
        environment: The cluster environment; where it is not ours, only the quiet end is seen to.
        rank: Rank of this process.
        world_size: Number of processes.
        timeout: Time limit of the process group; torch's default where it is ``None``.
        backend: Its backend, as torch names it.

    Yields:
        What to give to :func:`torch.distributed.init_process_group` besides.

    Raises:
        ConnectionError: Hosts do not reach each other.
        TimeoutError: Somebody did not come in time.
        ValueError: A setting is malformed.
    """
    job = environment.current_job() if isinstance(environment, SageMakerEnvironment) else None
    options: dict[str, Any] = {}
    if job is not None:
        if is_on("gloo_interface"):
            set_gloo_interface(job, os.environ)
        store = _store(job, rank, world_size, timeout or default_pg_timeout, backend)
        if store is not None:
            options["store"] = store
    yield options
    if is_on("quiet_end"):
        end_at_exit()
    if job is not None:
        mark_rank()
    if job is not None and is_on("heartbeat"):
        heartbeat.start(job, rank, world_size)


def _store(job: SageMakerJob, rank: int, world_size: int, timeout: timedelta, backend: str) -> Store | None:
    """Where the processes of a new group find each other; ``None`` where torch finds it as well by itself."""
    number, is_restarted = next(_groups), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    has_agents = job.launcher == "torchrun"  # they have met already, and keep one store for all groups and attempts
    is_again = has_agents and (number > 0 or is_restarted) and is_on("group_keys")
    limit = limit_of(job) if is_on("rendezvous") else 0.0
    if not limit and not is_again:
        return None
    if has_agents:
        # As Lightning sets them a moment later: torchrun need not have, on one host.
        os.environ.update(MASTER_ADDR=job.main_address, MASTER_PORT=str(job.main_port))
        store: Store = next(rendezvous("env://", rank, world_size, timeout=timeout))[0]
    else:
        store = open_store(job, rank, world_size, timeout=timeout, limit=limit, speaks=job.local_rank == 0)
    store.set_timeout(timeout)
    if limit:
        join(job, store, rank=rank, world_size=world_size, timeout=timeout, limit=limit, backend=backend)
    # torch calls each default group "0": what the ranks of an earlier one have told would be read again.
    return PrefixStore(f"group/{number}", prefixed(store)) if is_again else store
