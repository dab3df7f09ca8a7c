"""The steps around making a process group in a SageMaker training job."""

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
from lightning_sagemaker.distributed.interface import set_gloo_interface
from lightning_sagemaker.distributed.main_address import wait_for_agents
from lightning_sagemaker.distributed.rendezvous import join, limit_of, open_store
from lightning_sagemaker.distributed.shutdown import end_at_exit
from lightning_sagemaker.distributed.store import PrefixStore, prefixed
from lightning_sagemaker.environment import SageMakerEnvironment

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
    """Make a process group: waits before it write lines, and the heartbeat watches its processes afterwards.

    Where the cluster environment is not ours, only the quiet end is seen to. The arguments are those of
    :func:`torch.distributed.init_process_group`. It yields what to give to that function besides.
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
        join(job, store, timeout, limit, backend)
    # torch calls each default group "0": what the ranks of an earlier one have told would be read again.
    return PrefixStore(f"group/{number}", prefixed(store)) if is_again else store
