"""Patches for making the process group, in Lightning and in torchrun's agents."""

from __future__ import annotations

import functools
import os
import weakref
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.distributed.failure_file import report_exceptions
from lightning_sagemaker.distributed.shutdown import end_at_exit
from lightning_sagemaker.environment import SageMakerEnvironment, mark_rank
from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import first_time, replace_everywhere, wrap

if TYPE_CHECKING:
    from types import ModuleType


def patch_init_dist_connection(module: ModuleType) -> None:
    """Wrap the function by which all of Lightning's strategies but DeepSpeed's make their process group."""
    if not is_training_job(os.environ) or not first_time(module):
        return
    if is_on("failure_file"):
        report_exceptions()
    if is_on("quiet_end"):
        end_at_exit()  # as early as can be, to happen after exit handlers of the user's
    connect = module._init_dist_connection

    @functools.wraps(connect)
    def _init_dist_connection(
        cluster_environment: Any,
        torch_distributed_backend: str,
        global_rank: int | None = None,
        world_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        import torch.distributed as dist

        from lightning_sagemaker.distributed.rendezvous import watched

        if not dist.is_available() or dist.is_initialized() or "store" in kwargs:
            connect(cluster_environment, torch_distributed_backend, global_rank, world_size, **kwargs)
        else:
            global_rank = cluster_environment.global_rank() if global_rank is None else global_rank
            world_size = cluster_environment.world_size() if world_size is None else world_size
            with watched(
                cluster_environment, global_rank, world_size, kwargs.get("timeout"), torch_distributed_backend
            ) as options:
                connect(cluster_environment, torch_distributed_backend, global_rank, world_size, **kwargs, **options)
        if isinstance(cluster_environment, SageMakerEnvironment):
            mark_rank()

    replace_everywhere(connect, _init_dist_connection)


def patch_deepspeed(module: ModuleType) -> None:
    """Mark ranks whose process group DeepSpeed makes."""

    @wrap(module.DeepSpeedStrategy, "_init_deepspeed_distributed")
    def _init_deepspeed_distributed(connect: Any, strategy: Any) -> None:
        connect(strategy)
        if isinstance(strategy.cluster_environment, SageMakerEnvironment):
            mark_rank()


def patch_static_rendezvous(module: ModuleType) -> None:
    """Let torchrun's agents, one per host, run the checks between hosts: they start before any user code."""
    rendezvous_class = module.StaticTCPRendezvous
    if not is_training_job(os.environ) or not first_time(rendezvous_class):
        return
    next_rendezvous = rendezvous_class.next_rendezvous

    @functools.wraps(next_rendezvous)
    def check_hosts_first(rendezvous: Any) -> Any:
        if rendezvous._store is None and is_on("rendezvous"):
            from lightning_sagemaker.distributed.rendezvous import rendezvous_of_agents

            rendezvous._store = rendezvous_of_agents(
                rendezvous.master_addr,
                rendezvous.master_port,
                rendezvous.rank,
                rendezvous.world_size,
                rendezvous.timeout,
            )
        return next_rendezvous(rendezvous)

    rendezvous_class.next_rendezvous = check_hosts_first
    if is_on("failure_file"):
        report_exceptions()


def patch_signal_connector(module: ModuleType) -> None:
    """Tell the heartbeat the Trainer's step."""
    connector_class = module._SignalConnector
    if not is_training_job(os.environ) or not first_time(connector_class, "steps"):
        return
    register = connector_class.register_signal_handlers

    @functools.wraps(register)
    def register_signal_handlers(connector: Any) -> None:
        from lightning_sagemaker.distributed.heartbeat import tell_step

        trainer = weakref.ref(connector.trainer)
        tell_step(lambda: getattr(trainer(), "global_step", None))
        register(connector)

    connector_class.register_signal_handlers = register_signal_handlers
