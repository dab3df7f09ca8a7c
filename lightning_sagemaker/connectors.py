"""Where this package meets Lightning: environment, devices, strategies by name, ``prepare_data``, one barrier.

The only file that names private parts of Lightning. What it uses is the same in Lightning 2.2 to 2.6, in both
distributions: ``_choose_and_init_cluster_environment``, ``_set_devices_flag_if_auto_passed`` and the ``_*_flag``
attributes of ``_AcceleratorConnector`` (Trainer) and ``_Connector`` (Fabric); since 2.3 ``_InfiniteBarrier``.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.environment import SageMakerEnvironment, register_virtual_subclass
from lightning_sagemaker.job import SageMakerJob, in_training_job

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger("lightning_sagemaker")

_PATCHED = "_lightning_sagemaker_patched"
_FOUND = "_lightning_sagemaker_environment"
_STRATEGIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "smddp": ("replicated", {}, "DDP over AWS's SMDDP collectives"),
    "smddp_find_unused_parameters_true": (
        "replicated",
        {"find_unused_parameters": True},
        "DDP over AWS's SMDDP collectives with `find_unused_parameters=True`",
    ),
    "smddp_find_unused_parameters_false": (
        "replicated",
        {"find_unused_parameters": False},
        "DDP over AWS's SMDDP collectives with `find_unused_parameters=False`",
    ),
    "smddp_fsdp": ("sharded", {}, "FSDP over AWS's SMDDP collectives"),
}


def patch_connector(module: ModuleType) -> None:
    """Wrap the connector class of a Lightning connector module; a second call does nothing.

    Args:
        module: ``*.trainer.connectors.accelerator_connector`` or ``*fabric.connector`` of either distribution.

    Raises:
        AttributeError: The module is not as in Lightning 2.2 to 2.6.
    """
    connector_class = getattr(module, "_AcceleratorConnector", None) or module._Connector
    if _PATCHED in vars(connector_class):
        return
    choose_environment = connector_class._choose_and_init_cluster_environment
    choose_devices = connector_class._set_devices_flag_if_auto_passed

    @functools.wraps(choose_devices)
    def set_devices_flag_if_auto_passed(connector: Any) -> None:  # noqa: ANN401
        automatic = isinstance(connector._devices_flag, str) and connector._devices_flag == "auto"
        environment = _environment_of(connector, module) if automatic else None
        if environment is None or not _set_devices(connector, environment.job):
            choose_devices(connector)

    @functools.wraps(choose_environment)
    def choose_and_init_cluster_environment(connector: Any) -> Any:  # noqa: ANN401
        environment = _environment_of(connector, module)
        if environment is None:
            return choose_environment(connector)
        _set_num_nodes(connector, environment.job)
        environment.validate_settings(num_devices=len(connector._parallel_devices), num_nodes=connector._num_nodes_flag)
        return environment

    register_virtual_subclass()
    connector_class._set_devices_flag_if_auto_passed = set_devices_flag_if_auto_passed
    connector_class._choose_and_init_cluster_environment = choose_and_init_cluster_environment
    setattr(connector_class, _PATCHED, True)


def register_strategies(module: ModuleType) -> None:
    """Add our strategies to a registry of Lightning; names that are taken stay as they are.

    Args:
        module: ``*.strategies`` of either distribution, of Trainer or Fabric.
    """
    package = module.__name__.removesuffix(".strategies")
    registry = module.STRATEGY_REGISTRY if package.endswith("fabric") else module.StrategyRegistry
    if _PATCHED in vars(registry):
        return
    ours = {name: description for name, (_, _, description) in _STRATEGIES.items() if name not in registry}
    for name, description in ours.items():
        sharding, options, _ = _STRATEGIES[name]
        factory = functools.partial(_create_strategy, package, sharding)
        registry.register(name, factory, description=description, **options)
    register = registry.register

    @functools.wraps(register)
    def register_over_ours(name: str, strategy: Any = None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # NeMo registers `smddp` without `override`, which would fail because of us.
        if name in ours and registry[name]["description"] == ours[name]:
            registry.remove(name)
        return register(name, strategy, *args, **kwargs)

    registry.register = register_over_ours
    setattr(registry, _PATCHED, True)


def patch_data_connector(module: ModuleType) -> None:
    """Let a failed ``prepare_data`` reach all processes of its host; inside SageMaker training jobs only.

    Args:
        module: ``*.trainer.connectors.data_connector`` of either distribution.
    """
    connector_class = module._DataConnector
    if _PATCHED in vars(connector_class) or not in_training_job(os.environ):
        return
    from lightning_sagemaker.locking.lightning import guard_prepare_data  # noqa: PLC0415 - only in a job

    guard_prepare_data(connector_class)
    setattr(connector_class, _PATCHED, True)


def patch_infinite_barrier(module: ModuleType) -> None:
    """Let Lightning's barrier without time limit do without a second process group where SMDDP is in use.

    Args:
        module: ``*fabric.utilities.distributed`` of either distribution.
    """
    barrier_class = getattr(module, "_InfiniteBarrier", None)
    if barrier_class is None or _PATCHED in vars(barrier_class):
        return
    enter, leave = barrier_class.__enter__, barrier_class.__exit__

    @functools.wraps(enter)
    def __enter__(barrier: Any) -> Any:  # noqa: ANN401, N807
        import torch.distributed as dist  # noqa: PLC0415 - torch may be half-imported when this module is

        barrier.store_barrier = None
        if not (dist.is_available() and dist.is_initialized() and dist.get_backend() == "smddp"):
            return enter(barrier)
        from lightning_sagemaker.smddp.waiting import StoreBarrier  # noqa: PLC0415 - only on SMDDP

        barrier.store_barrier = StoreBarrier()
        barrier.barrier = barrier.store_barrier.wait
        return barrier

    @functools.wraps(leave)
    def __exit__(barrier: Any, kind: Any, error: BaseException | None, trace: Any) -> Any:  # noqa: ANN401, N807
        if barrier.store_barrier is None:
            return leave(barrier, kind, error, trace)
        return barrier.store_barrier.wait() if error is None else barrier.store_barrier.fail(error)

    barrier_class.__enter__, barrier_class.__exit__ = __enter__, __exit__
    setattr(barrier_class, _PATCHED, True)


def _create_strategy(package: str, sharding: str, **kwargs: Any) -> Any:  # noqa: ANN401
    from lightning_sagemaker.smddp.strategies import strategy_class  # noqa: PLC0415 - needs all of Lightning

    return strategy_class(package, sharding)(**kwargs)


def _environment_of(connector: Any, module: ModuleType) -> SageMakerEnvironment | None:  # noqa: ANN401
    """Our environment, where the user chose no other, no scheduler runs the job, and SageMaker does."""
    if _FOUND not in vars(connector):
        chosen, found = connector._cluster_environment_flag, None
        if isinstance(chosen, module.ClusterEnvironment):
            found = chosen if isinstance(chosen, SageMakerEnvironment) else None
        elif in_training_job(os.environ) and not (module.SLURMEnvironment.detect() or module.LSFEnvironment.detect()):
            job = SageMakerJob.detect()
            found = SageMakerEnvironment(job) if job else None
        setattr(connector, _FOUND, found)
    return vars(connector)[_FOUND]  # type: ignore[no-any-return]


def _set_devices(connector: Any, job: SageMakerJob) -> bool:  # noqa: ANN401
    """Replace ``devices="auto"`` by the job's processes per host, where the job knows better than Lightning's count."""
    accelerator = connector.accelerator
    on_cpu = type(accelerator).__name__ == "CPUAccelerator"
    if job.local_world_size is None or (job.launcher == "none" and not on_cpu):
        return False  # Lightning will start the processes, one for each device that it sees
    if not on_cpu and job.local_world_size > (seen := accelerator.auto_device_count()):
        raise RuntimeError(
            f"{job.launcher} started {job.local_world_size} processes on this host, but torch sees {seen} device(s)"
            f" of {type(accelerator).__name__}: {job!r}. HINT: let the job's distribution start at most one process per"
            " device, and look at CUDA_VISIBLE_DEVICES."
        )
    connector._devices_flag = job.local_world_size
    return True


def _set_num_nodes(connector: Any, job: SageMakerJob) -> None:  # noqa: ANN401
    """Let the cluster's number of hosts win over 1, which is Lightning's default and cannot be told from a choice."""
    if connector._num_nodes_flag == 1 and job.num_nodes > 1:
        if job.is_rank_zero:
            _speak()
            log.info("num_nodes=%d, as in %r", job.num_nodes, job)
        connector._num_nodes_flag = job.num_nodes


def _speak() -> None:
    """Show our lines of level INFO, as Lightning does its own, unless the user has set logging up."""
    if not log.hasHandlers() and log.level == logging.NOTSET:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False
