"""Patches for making the process group, in Lightning and in torchrun's agents. In SageMaker training jobs."""

from __future__ import annotations

import os
import weakref
from typing import Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.distributed.failure_file import report_exceptions
from lightning_sagemaker.distributed.shutdown import end_at_exit
from lightning_sagemaker.environment import SageMakerEnvironment, mark_rank, process_group
from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import same_checkpoint, wrap
from lightning_sagemaker.patches.environment import note_world


def patch_init_dist_connection(module: Any) -> None:
    """Wrap the function by which all of Lightning's strategies but DeepSpeed's make their process group."""
    if is_training_job(os.environ) and is_on("failure_file"):
        report_exceptions()
    if is_training_job(os.environ) and is_on("quiet_end"):
        end_at_exit()  # as early as can be, to happen after exit handlers of the user's

    @wrap(module, "_init_dist_connection")
    def _init_dist_connection(
        connect: Any,
        cluster_environment: Any,
        torch_distributed_backend: str,
        global_rank: int | None = None,
        world_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        from lightning_sagemaker.distributed.rendezvous import watched

        was_there, timeout = process_group() is not None, kwargs.get("timeout")
        if was_there or "store" in kwargs or "init_method" in kwargs:
            connect(cluster_environment, torch_distributed_backend, global_rank, world_size, **kwargs)
        else:
            rank = cluster_environment.global_rank() if global_rank is None else global_rank
            size = cluster_environment.world_size() if world_size is None else world_size
            with watched(cluster_environment, rank, size, timeout, torch_distributed_backend) as options:
                connect(cluster_environment, torch_distributed_backend, rank, size, **kwargs, **options)
        if isinstance(cluster_environment, SageMakerEnvironment):
            _note_rank()
        if is_on("same_checkpoint") and process_group() is not None:
            same_checkpoint.note_process_group(cluster_environment, timeout, was_there=was_there)


def patch_deepspeed(module: Any) -> None:
    """Mark ranks whose process group DeepSpeed makes."""

    @wrap(module.DeepSpeedStrategy, "_init_deepspeed_distributed")
    def _init_deepspeed_distributed(connect: Any, strategy: Any) -> None:
        connect(strategy)
        if isinstance(strategy.cluster_environment, SageMakerEnvironment):
            _note_rank()


def _note_rank() -> None:
    """Remember that this process is a rank, also after its script has destroyed the process group."""
    mark_rank()
    if (group := process_group()) is not None:
        note_world(group.get_world_size())


def patch_static_rendezvous(module: Any) -> None:
    """Let torchrun's agents, one per host, run the checks between hosts: they start before any user code."""
    if is_training_job(os.environ) and is_on("failure_file"):
        report_exceptions()

    @wrap(module.StaticTCPRendezvous, "next_rendezvous")
    def check_hosts_first(next_rendezvous: Any, agent: Any) -> Any:
        if agent._store is None and is_on("rendezvous"):
            from lightning_sagemaker.distributed.rendezvous import rendezvous_of_agents

            where = agent.master_addr, agent.master_port, agent.rank, agent.world_size
            agent._store = rendezvous_of_agents(*where, agent.timeout)
        return next_rendezvous(agent)


def patch_signal_connector(module: Any) -> None:
    """Tell the heartbeat of the Trainer's progress."""

    @wrap(module._SignalConnector, "register_signal_handlers")
    def register_signal_handlers(register: Any, connector: Any) -> None:
        from lightning_sagemaker.distributed.heartbeat import tell_progress

        known = weakref.ref(connector.trainer)

        def progress() -> tuple[int | None, bool]:
            trainer = known()
            if trainer is None:
                return None, False
            return trainer.global_step, trainer.state.status == "running" and trainer.world_size > 1

        tell_progress(progress)
        register(connector)
