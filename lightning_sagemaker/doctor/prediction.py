"""What Lightning will do in this process, and why; the tests hold it against what Trainers really do.

It speaks of a Trainer as the environment describes it: ``Trainer()`` and ``PL_TRAINER_*``. Arguments in the script win.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_sagemaker.doctor.report import Fact
from lightning_sagemaker.job import lightning_local_rank
from lightning_sagemaker.smddp.names import STRATEGIES, sharding_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.doctor.situation import Situation
    from lightning_sagemaker.job import SageMakerJob

_STRATEGIES = {
    **{
        name: "SMDDPStrategy" if named.sharding == "replicated" else "SMDDPFSDPStrategy"
        for name, named in STRATEGIES.items()
    },
    "ddp": "DDPStrategy",
    "ddp_find_unused_parameters_true": "DDPStrategy",
    "ddp_find_unused_parameters_false": "DDPStrategy",
    "fsdp": "FSDPStrategy",
}
_ON_ONE_DEVICE = "SingleDeviceStrategy"


def predict(situation: Situation) -> Iterator[Fact]:
    """What Lightning will do."""
    job, machine = situation.job, situation.machine
    if situation.problem:
        yield Fact("cluster_environment", None, "none: Trainer and Fabric with the plugin raise the first finding")
        return
    if job is None:
        yield Fact("cluster_environment", None, "Lightning's own choice: outside training jobs the plugin does nothing")
        return
    if not machine.hooked:
        yield Fact("cluster_environment", *_without_plugin(situation, job))
        yield Fact("num_nodes", 1, "Lightning's default: it does not know this job")
        return
    yield Fact(
        "cluster_environment",
        "SageMakerEnvironment",
        "this is a SageMaker training job; plugins=[...] of yours, SLURM and LSF keep precedence",
    )
    yield _num_nodes(situation, job)
    devices = _devices(situation, job)
    yield devices
    world_size = job.num_nodes * devices.value if isinstance(devices.value, int) else None
    yield Fact("world_size", world_size, "num_nodes x devices" if world_size else "unknown without devices")
    yield _processes(situation, job)
    strategy = _strategy(situation, world_size)
    yield strategy
    yield _backend(situation, strategy.value == _ON_ONE_DEVICE)


def _without_plugin(situation: Situation, job: SageMakerJob) -> tuple[str | None, str]:
    if situation.machine.hooked is None:
        return None, "unknown: torch cannot be imported"
    launcher = {"torchrun": "TorchElasticEnvironment", "mpirun": "MPIEnvironment"}
    return launcher.get(job.launcher, "LightningEnvironment"), "the plugin is not loaded, see the findings"


def _num_nodes(situation: Situation, job: SageMakerJob) -> Fact:
    chosen = situation.number("PL_TRAINER_NUM_NODES")
    if chosen not in (None, 1, job.num_nodes):
        return Fact("num_nodes", chosen, f"PL_TRAINER_NUM_NODES; the job has {job.num_nodes}, which is an error")
    why = "host trains alone" if job.num_nodes == 1 else "hosts train together; the default, 1, gives way to the job"
    return Fact("num_nodes", job.num_nodes, f"{job.num_nodes} {why}")


def _gpus(situation: Situation) -> int | None:
    return 0 if situation.environ.get("PL_TRAINER_ACCELERATOR") == "cpu" else situation.machine.gpus


def _devices(situation: Situation, job: SageMakerJob) -> Fact:
    chosen, gpus = situation.number("PL_TRAINER_DEVICES"), _gpus(situation)
    if chosen is not None:
        return Fact("devices", chosen, "PL_TRAINER_DEVICES")
    if job.launcher != "none":
        return Fact("devices", job.local_world_size, f"processes that {job.launcher} started on each host")
    if gpus is None:
        return Fact("devices", None, "unknown: torch cannot be imported")
    if gpus:
        return Fact("devices", gpus, "one process for each GPU that torch sees")
    told = "GPUs that the job says the host has; torch sees none, so they are processes on the CPU"
    return Fact("devices", job.local_world_size or 1, told if job.local_world_size else "no GPU is seen")


def _processes(situation: Situation, job: SageMakerJob) -> Fact:
    if job.launcher != "none":
        return Fact("creates_processes_externally", value=True, why=f"{job.launcher} started all processes")
    if lightning_local_rank(situation.environ) is not None:
        return Fact("creates_processes_externally", value=True, why="LOCAL_RANK is set: Lightning started them before")
    return Fact(
        "creates_processes_externally", value=False, why="no launcher: Lightning starts the others of this host"
    )


def _strategy(situation: Situation, world_size: int | None) -> Fact:
    asked = situation.strategy
    if asked != "auto":
        return Fact("strategy", _STRATEGIES.get(asked, asked), f"PL_TRAINER_STRATEGY={asked}")
    if world_size is None:
        return Fact("strategy", None, "unknown without world size")
    if world_size > 1:
        return Fact("strategy", "DDPStrategy", 'the default for several processes; strategy="..." in the script wins')
    return Fact("strategy", _ON_ONE_DEVICE, "world size 1 is a plain run")


def _backend(situation: Situation, alone: bool) -> Fact:
    gpus = _gpus(situation)
    if alone:
        return Fact("backend", None, "none: one process makes no process group")
    if sharding_of(situation.strategy) and situation.smddp_obstacle is None:
        return Fact("backend", "smddp", "the strategy asks for it, and it can be used")
    if gpus is None:
        return Fact("backend", None, "unknown: torch cannot be imported")
    return Fact("backend", "nccl" if gpus else "gloo", "training on GPUs" if gpus else "training on the CPU")
