"""Environment, number of hosts and devices of a Trainer or Fabric, from the SageMaker job.

What it uses is the same in Lightning 2.2 to 2.6, in both distributions: ``_choose_and_init_cluster_environment``,
``_set_devices_flag_if_auto_passed`` and the ``_*_flag`` attributes of ``_AcceleratorConnector`` (Trainer) and
``_Connector`` (Fabric).
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.environment import SageMakerEnvironment, register_virtual_subclass
from lightning_sagemaker.job import SageMakerJob, in_training_job
from lightning_sagemaker.messages import log, speak
from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from types import ModuleType

_FOUND = "_lightning_sagemaker_environment"


def patch_connector(module: ModuleType) -> None:
    """Wrap the connector class of a Lightning connector module; a second call does nothing.

    Args:
        module: ``*.trainer.connectors.accelerator_connector`` or ``*fabric.connector`` of either distribution.

    Raises:
        AttributeError: The module is not as in Lightning 2.2 to 2.6.
    """
    connector_class = getattr(module, "_AcceleratorConnector", None) or module._Connector
    choose_environment = connector_class._choose_and_init_cluster_environment
    choose_devices = connector_class._set_devices_flag_if_auto_passed
    if not first_time(connector_class):
        return

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
            speak()
            log.info("num_nodes=%d, as in %r", job.num_nodes, job)
        connector._num_nodes_flag = job.num_nodes
