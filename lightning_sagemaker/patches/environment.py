"""Environment, number of hosts and devices of a Trainer or Fabric, from the SageMaker job.

What it uses is the same in Lightning 2.2 to 2.6, in both distributions: ``_choose_and_init_cluster_environment``,
``_set_devices_flag_if_auto_passed``, ``_lazy_init_strategy`` and the ``_*_flag`` attributes of
``_AcceleratorConnector`` (Trainer) and ``_Connector`` (Fabric).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker._autoload import activate_unfinished
from lightning_sagemaker.changes import is_on
from lightning_sagemaker.environment import (
    SageMakerEnvironment,
    is_descendant_of_rank,
    is_launched,
    is_started_by_rank,
    process_group,
    register_virtual_subclass,
)
from lightning_sagemaker.job import SageMakerJob, agents_share_hosts, is_training_job
from lightning_sagemaker.job.channels import dropped_rows, sharded_channels
from lightning_sagemaker.job.launchers import lightning_local_rank
from lightning_sagemaker.messages import say, warn_once
from lightning_sagemaker.patches import rank_zero, wrap
from lightning_sagemaker.patches.chosen_world import check_chosen_world
from lightning_sagemaker.patches.trainer import given, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

_FOUND, _ALONE = "_lightning_sagemaker_environment", "_lightning_sagemaker_alone"
_world_size = 1  # of the last world that this process was a rank of, or whose ranks it has started; they may have ended
_trained_by_same_words: bool | None = None  # as Lightning recommends for tests; None before the first Trainer
_FOR_GPUS = ("nccl", "smddp")  # backends that have no CPU tensors


def patch_connector(module: Any) -> None:
    """Wrap the connector class of a Lightning connector module."""
    connector_class = getattr(module, "_AcceleratorConnector", None) or module._Connector
    register_virtual_subclass()

    @wrap(connector_class, "_set_devices_flag_if_auto_passed", always=True)
    def set_devices_flag_if_auto_passed(choose: Any, connector: Any) -> None:
        automatic = isinstance(connector._devices_flag, str) and connector._devices_flag == "auto"
        environment = _environment_of(connector, module) if automatic else None
        if environment is None or not _set_devices(connector, environment.job, module.CUDAAccelerator.is_available):
            choose(connector)

    @wrap(connector_class, "_choose_and_init_cluster_environment", always=True)
    def choose_and_init_cluster_environment(choose: Any, connector: Any) -> Any:
        activate_unfinished()
        environment = _environment_of(connector, module)
        if environment is None:
            rank_zero.restore()
            # Not what launchers' variables would make of it: those are the job's, and this Trainer is none of it.
            return module.LightningEnvironment() if vars(connector)[_ALONE] else choose(connector)
        _remember_words(connector)
        if not _agree(connector, environment, is_interactive=module._IS_INTERACTIVE):
            return choose(connector)
        _say_lone_local_rank(environment, len(connector._parallel_devices))
        if is_on("shards"):
            _say_dropped_rows(connector, environment.job)
        return environment

    @wrap(connector_class, "_lazy_init_strategy", always=True)
    def lazy_init_strategy(initialize: Any, connector: Any) -> None:
        initialize(connector)
        if hasattr(connector.strategy, "cluster_environment"):
            rank_zero.leave_to_strategies()
        else:  # a strategy of one device, which tells nobody a rank
            rank_zero.restore()
        _refuse_second_launcher(connector)
        if is_on("world_check"):
            check_chosen_world(connector)


def patch_fabric(module: Any) -> None:
    """Record the explicit arguments; say why ``launch()`` is needed, as Lightning's error speaks of many devices."""

    @wrap(module.Fabric, "__init__", always=True)
    def __init__(initialize: Any, fabric: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        with recorded(kwargs):
            initialize(fabric, *args, **kwargs)

    @wrap(module.Fabric, "_validate_launched", always=True)
    def _validate_launched(validate: Any, fabric: Any) -> None:
        try:
            validate(fabric)
        except RuntimeError as error:
            environment = getattr(fabric.strategy, "cluster_environment", None)
            if not isinstance(environment, SageMakerEnvironment) or environment.job.num_nodes == 1:
                raise
            raise RuntimeError(
                f"Fabric was not launched, and {environment.job.num_nodes} hosts of this SageMaker job train together,"
                f" also where each has one device: {environment.job!r}. HINT: call `fabric.launch()` right after"
                " `Fabric(...)`; for hosts that work by themselves, Fabric(plugins=[LightningEnvironment()],"
                " num_nodes=1)."
            ) from error


def _environment_of(connector: Any, module: Any) -> SageMakerEnvironment | None:
    """Our environment, if SageMaker runs the job, no other scheduler does, and the user chose no environment."""
    if _FOUND not in vars(connector):
        chosen, found, alone = connector._cluster_environment_flag, None, False
        strategy = connector._strategy_flag
        if not is_on("environment") or not (isinstance(strategy, str) or hasattr(strategy, "cluster_environment")):
            pass  # the latter is one of one device, given as an object
        elif chosen:  # of any class: a strategy may carry one that is no `ClusterEnvironment` of this distribution
            found = chosen if isinstance(chosen, SageMakerEnvironment) else None
        elif is_training_job(os.environ) and not (module.SLURMEnvironment.detect() or module.LSFEnvironment.detect()):
            alone = _is_child(connector) or ((job := _job(connector)) is not None and _is_apart(connector, job))
            found = None if alone or job is None or _is_of_other_mpi(job, module) else SageMakerEnvironment(job)
        setattr(connector, _FOUND, found)
        setattr(connector, _ALONE, alone)
    return vars(connector)[_FOUND]  # type: ignore[no-any-return]


def _job(connector: Any) -> SageMakerJob | None:
    """The job; ``None`` if the launcher's world is not the job's, and has formed as outside jobs.

    A rank has started that launcher, or torchrun has several agents on a host.
    """
    try:
        return SageMakerJob.detect()
    except ValueError as error:
        if is_descendant_of_rank():
            _say_other_launcher(connector, error)
        elif agents_share_hosts(os.environ):
            warn_once(
                f"torchrun has several agents on a host of the SageMaker job: {_package(connector)} runs in their world"
                " as elsewhere, with the `num_nodes` and `devices` of the script. HINT: with one agent on each host"
                " (`--nproc_per_node`), both come from the job."
            )
        else:
            raise
        return None


def _agree(connector: Any, environment: SageMakerEnvironment, *, is_interactive: bool) -> bool:
    """Give a Trainer the job's number of hosts, and check it; whether it is to run in the job's world.

    In a process that a rank started with a world of its own, such as one with another ``MASTER_PORT``, it is not.
    """
    before = connector._num_nodes_flag, connector._strategy_flag
    _set_num_nodes(connector, environment.job, is_interactive=is_interactive)
    try:
        environment.validate_settings(num_devices=len(connector._parallel_devices), num_nodes=connector._num_nodes_flag)
    except ValueError as error:
        if not is_descendant_of_rank():
            raise
        _say_other_launcher(connector, error)
        connector._num_nodes_flag, connector._strategy_flag = before
        setattr(connector, _FOUND, None)
        return False
    return True


def _say_other_launcher(connector: Any, error: ValueError) -> None:
    warn_once(
        f"A rank of the SageMaker job started the launcher of this process (pid {os.getpid()}), whose world is none of"
        f" the job's: {_package(connector)} runs in it as elsewhere. ({error})"
    )


def _package(connector: Any) -> str:
    return type(connector).__module__.partition(".")[0]


def _is_child(connector: Any) -> bool:
    """Whether a rank started this process, which is no rank itself, so that its Trainers run alone.

    Also where the rank has taken the launcher's variables away, as a script does that wants a child to run alone.
    """
    if not (is_started_by_rank() or (is_descendant_of_rank() and not is_launched())):
        return False
    warn_once(
        f"A rank of the SageMaker job started this process (pid {os.getpid()}), so it is not a rank:"
        f" {_package(connector)} runs by itself here. HINT: to join the job's world, start it"
        " by torchrun or mpirun."
    )
    return True


def _is_of_other_mpi(job: SageMakerJob, module: Any) -> bool:
    """Whether an MPI that is not Open MPI started this process, as MPICH and its kin do: Lightning asks mpi4py then."""
    return job.launcher == "none" and os.environ.get("PMI_SIZE", "1") != "1" and module.MPIEnvironment.detect()


def _is_apart(connector: Any, job: SageMakerJob) -> bool:
    """Whether a later Trainer, on one device, runs alone on the rank that makes it.

    Lightning recommends ``Trainer(devices=1, num_nodes=1)`` for a test after a fit on many devices
    (pytorch-lightning#12862). On hosts of one device each, the same words may mean the whole job, as for the next fold:
    there ``num_nodes=1`` has to be given, and not have been given to the Trainer that trained on the job.
    """
    group = process_group()
    world_size = group.get_world_size() if group else _world_size
    automatic = str(connector._devices_flag) == "auto"
    if world_size == 1 or connector._strategy_flag != "auto" or not (automatic or _has_one_device(connector)):
        return False
    if group and _is_on_cpu(connector) and group.get_backend() in _FOR_GPUS:
        return True  # as in stock, which gives it one device; the group of the fit on GPUs carries nothing of it
    if automatic or (not group and job.num_nodes == 1 and job.launcher == "none"):
        return False  # the latter is alone on its host anyway
    return world_size != job.num_nodes or ("num_nodes" in given.get({}) and not _trained_by_same_words)


def _has_one_device(connector: Any) -> bool:
    return len(connector._parallel_devices) == 1  # however it is written: 1, "1", [1], "1,"


def _is_on_cpu(connector: Any) -> bool:
    return type(connector.accelerator).__name__ == "CPUAccelerator"


def _set_devices(connector: Any, job: SageMakerJob, sees_gpus: Callable[[], bool]) -> bool:
    """Replace ``devices="auto"`` by the job's processes per host, if the job knows better than Lightning's count."""
    accelerator, on_cpu = connector.accelerator, _is_on_cpu(connector)
    # Lightning will start the processes, one for each device that it sees. On the CPU of a host with GPUs that is one,
    # but in processes that it has started for the GPUs.
    started = lightning_local_rank(os.environ) is not None
    if job.local_world_size is None or (job.launcher == "none" and (not on_cpu or (sees_gpus() and not started))):
        return False
    if not on_cpu and job.local_world_size > (seen := accelerator.auto_device_count()):
        raise RuntimeError(
            f"{job.launcher} started {job.local_world_size} processes on this host, but torch sees {seen} device(s)"
            f" of {type(accelerator).__name__}: {job!r}. HINT: let the job's distribution start at most one process per"
            " device, and look at CUDA_VISIBLE_DEVICES."
        )
    if not on_cpu and job.local_world_size < seen and job.is_rank_zero:
        warn_once(
            f"{job.launcher} started {job.local_world_size} process(es) on each host, but torch sees {seen} device(s)"
            f" of {type(accelerator).__name__}: the others stay idle. HINT: let the job's distribution start a process"
            " per device; if this is meant, `devices` says so."
        )
    connector._devices_flag = job.local_world_size
    return True


def note_world(world_size: int) -> None:
    """Remember the world that this process is a rank of, or whose ranks it has started by `multiprocessing`."""
    global _world_size  # noqa: PLW0603
    _world_size = world_size


def _refuse_second_launcher(connector: Any) -> None:
    """Refuse a strategy that starts processes if a launcher has started them: each would start all of them again."""
    environment: Any = connector.cluster_environment
    launcher: Any = getattr(connector.strategy, "launcher", None)
    if type(launcher).__name__ != "_MultiProcessingLauncher" or not isinstance(environment, SageMakerEnvironment):
        return
    job = environment.job
    if job.launcher != "none" and job.local_world_size != 1:
        flag = connector._strategy_flag
        raise ValueError(
            f"strategy={flag if isinstance(flag, str) else type(flag).__name__!r} starts"
            f" {len(connector._parallel_devices)} processes by itself (start_method={launcher._start_method!r}), but"
            f" {job.launcher} has started {job.local_world_size} on each host already: {job!r}. HINT: the same strategy"
            ' without that ("ddp", or start_method="popen") takes the processes that are there; or let the job have no'
            " distribution."
        )


def _set_num_nodes(connector: Any, job: SageMakerJob, *, is_interactive: bool) -> None:
    """Replace ``num_nodes=1``, Lightning's default, by the job's number: a default cannot be told from a choice."""
    if connector._num_nodes_flag == 1 and job.num_nodes > 1:
        if job.is_rank_zero:
            apart = "to run it alone: Trainer(plugins=[LightningEnvironment()], devices=1)."
            way_out = f" This Trainer runs on all hosts too; {apart}" if process_group() else ""
            say("num_nodes=%d, as in %r.%s", job.num_nodes, job, way_out)
        connector._num_nodes_flag = job.num_nodes
        if is_interactive and connector._strategy_flag == "auto" and job.launcher == "none":
            connector._strategy_flag = "ddp_fork"  # Lightning's own choice in notebooks, but on one host only


def _remember_words(connector: Any) -> None:
    """Remember the arguments of the first Trainer in the job's world."""
    global _trained_by_same_words  # noqa: PLW0603
    if _trained_by_same_words is None:
        words = given.get({})
        is_one = str(words.get("devices", "auto")) != "auto" and _has_one_device(connector)
        _trained_by_same_words = is_one and "num_nodes" in words and words.get("strategy", "auto") == "auto"


def _say_lone_local_rank(environment: SageMakerEnvironment, devices: int) -> None:
    """Warn that nobody starts the other processes of this host, if ``LOCAL_RANK`` says that they are started by hand.

    As in stock, where it means that processes are started by hand. Lightning's launcher sets ``NODE_RANK`` too.
    """
    alone = environment.job.launcher == "none" and environment.creates_processes_externally
    if alone and devices > 1 and environment.local_rank() == 0 and "NODE_RANK" not in os.environ:
        warn_once(
            f"Environment variable `LOCAL_RANK`={os.environ['LOCAL_RANK']} says that the {devices} processes of this"
            f" host are started by hand, so Lightning starts none and waits for the other {devices - 1}. HINT: remove"
            " `LOCAL_RANK` from the image and from your entry script, and Lightning starts them."
        )


def _say_dropped_rows(connector: Any, job: SageMakerJob) -> None:
    """Warn that a distributed sampler would drop rows, if each of several hosts has different data."""
    if job.num_nodes == 1 or not job.is_rank_zero or not getattr(connector, "use_distributed_sampler", True):
        return
    try:
        channels = sharded_channels(os.environ)
    except ValueError as error:  # nothing else needs the file, so it is no reason to train without
        warn_once(f"Whether a channel gives each host data of its own is unknown: {error}")
        return
    if channels:
        warn_once(dropped_rows(channels, job.num_nodes))
