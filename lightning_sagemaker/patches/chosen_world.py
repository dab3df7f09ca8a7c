"""The check of a script that brings its own cluster environment: its world, compared with the job's.

The script's word wins where its world can form and each process gets its part of the data; no message then.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lightning_sagemaker.environment import SageMakerEnvironment
from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.messages import warn_once

_OFF = "LIGHTNING_SAGEMAKER_DISABLE=world_check leaves it as it is."


@dataclass(frozen=True)
class _World:
    """What a Trainer or Fabric with a cluster environment of the script's own would do."""

    environment: str  # the environment's name
    num_nodes: int  # as given
    devices: int  # devices (processes) per host, as given
    # Parts that the strategy has the distributed sampler make of the data. ``num_nodes x devices`` unless the strategy
    # says otherwise, as Ray's and NeMo's do.
    replicas: int
    # What the environment answers, once Lightning has set it; ``None`` where Lightning has still to start processes,
    # since many environments ask a variable that is set then.
    world_size: int | None
    samples: bool  # whether Lightning puts a distributed sampler in

    @property
    def product(self) -> int:
        return self.num_nodes * self.devices

    def __str__(self) -> str:
        return (
            f"`num_nodes={self.num_nodes}` and `devices` to {self.devices} device(s), {self.product} process(es),"
            f" beside the chosen cluster environment {self.environment}"
        )


def check_chosen_world(connector: Any) -> None:
    """Check `num_nodes` and `devices` beside an environment that the script chose, in a job that can be read.

    A line where the world may be meant; a Trainer that runs alone (``devices=1, num_nodes=1``) always is.
    """
    chosen, job, world = connector.cluster_environment, None, None
    if not connector._cluster_environment_flag or isinstance(chosen, SageMakerEnvironment):
        return
    with suppress(Exception):  # where the job or the environment cannot answer, the script's word stands
        job = SageMakerJob.detect()
        world = _world(connector, chosen) if job else None
    if job is None or world is None or world.product == 1:
        return
    impossible, doubtful = _contradictions(world, job)
    if impossible:
        raise ValueError(
            f"You set {world}, but {' and '.join(impossible + doubtful)}: ranks would wait for others that do not"
            f" exist, or a part of the data would never be seen. {job!r}. {_hint(world, job)} {_OFF}"
        )
    if doubtful and job.is_rank_zero:
        warn_once(
            f"You set {world}, but {' and '.join(doubtful)}: unless this is meant, hosts or ranks train apart or with"
            f" wrong ranks. {job!r}. {_hint(world, job)}"
        )


def _world(connector: Any, environment: Any) -> _World | None:
    """The script's choice; ``None`` if its strategy makes no world, or cannot be asked yet."""
    strategy, num_nodes, devices = connector.strategy, connector._num_nodes_flag, len(connector._parallel_devices)
    # XLA's environment would start its client, which must not happen before the processes are spawned.
    if not hasattr(strategy, "cluster_environment") or type(connector.accelerator).__name__ == "XLAAccelerator":
        return None
    spawns = type(getattr(strategy, "launcher", None)).__name__ == "_MultiProcessingLauncher"
    replicas, world_size = num_nodes * devices, None
    if environment.creates_processes_externally and not spawns:
        world_size = int(environment.world_size())
        if num_nodes * devices not in (1, world_size):
            with suppress(Exception):  # some strategies know it only later
                replicas = strategy.distributed_sampler_kwargs["num_replicas"]
    samples = getattr(connector, "use_distributed_sampler", True)
    return _World(type(environment).__name__, num_nodes, devices, replicas, world_size, samples)


def _contradictions(world: _World, job: SageMakerJob) -> tuple[list[str], list[str]]:
    """What speaks against the world: for certain, and perhaps."""
    impossible: list[str] = []
    doubtful: list[str] = []
    launched = None if job.launcher == "none" else job.world_size
    if world.world_size is None:  # processes that a launcher started may serve as hosts
        if world.num_nodes > (most := max(len(job.hosts), launched or 0)):
            impossible.append(f"the SageMaker job has {most} host(s)")
        return impossible, doubtful
    size = world.world_size
    if size not in (world.product, world.replicas):
        # More parts than processes: nobody sees the rest. Fewer: the sampler refuses the ranks beyond, unless the
        # script has one of its own, and then all may be well; as it may where Lightning puts no sampler in.
        (impossible if world.replicas > size and world.samples else doubtful).append(
            f"the environment's `world_size()` is {size}"
        )
    if launched is not None and size not in (1, launched):
        (impossible if size > launched else doubtful).append(f"{job.launcher} started {launched} process(es)")
    return impossible, doubtful


def _hint(world: _World, job: SageMakerJob) -> str:
    leave = "leave both out, and the environment too: they come from the job."
    if world.num_nodes <= len(job.hosts):
        return f"HINT: {leave}"
    return (
        f'HINT: `num_nodes` counts hosts, {len(job.hosts)} here; len(os.environ["SM_HOSTS"]) is the length of a string,'
        f' len(json.loads(os.environ["SM_HOSTS"])) the number of hosts. Or {leave}'
    )
