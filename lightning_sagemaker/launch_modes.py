"""How a SageMaker job can start a script's processes: one row for each launcher, with every name that it has."""

from __future__ import annotations

from typing import Any, NamedTuple

LOG_LEVEL = 20  # of the toolkit, as both SDKs set it


class LaunchMode(NamedTuple):
    """A launcher and its names."""

    distribution: str  # in SDK v2's `distribution={...}`, as `simulate --distribution` takes it
    flag: str | None = None  # hyperparameter by which SDK v2 asks the toolkit for it (`sagemaker/estimator.py`)
    v2: dict[str, Any] | None = None  # value of SDK v2's `distribution=`
    v3: str | None = None  # class of SDK v3's `distributed=`; SDK v3 starts no `smddprun`
    options: str | None = None  # hyperparameter with further options of mpirun


MODES = {
    "torchrun": LaunchMode(
        "torch_distributed", "sagemaker_torch_distributed_enabled", {"torch_distributed": {"enabled": True}}, "Torchrun"
    ),
    "smddprun": LaunchMode(
        "smdistributed",
        "sagemaker_distributed_dataparallel_enabled",
        {"smdistributed": {"dataparallel": {"enabled": True}}},
        options="sagemaker_distributed_dataparallel_custom_mpi_options",
    ),
    "mpirun": LaunchMode(
        "mpi", "sagemaker_mpi_enabled", {"mpi": {"enabled": True}}, "MPI", "sagemaker_mpi_custom_mpi_options"
    ),
    "none": LaunchMode("none"),
}
# All of the toolkit's launchers read it (its `runner.py`).
PROCESSES = "sagemaker_mpi_num_of_processes_per_host"


def flags(launcher: str, mpi_options: str = "") -> dict[str, object]:
    """Hyperparameters by which the training toolkit knows the launcher, a key of `MODES`."""
    mode = MODES[launcher]
    found: dict[str, object] = {mode.flag: True} if mode.flag else {}
    return found | ({mode.options: mpi_options} if mode.options else {})


def toolkit(program: str, source: str, name: str, region: str) -> dict[str, object]:
    """Hyperparameters by which the training toolkit finds the script, in an archive or a folder, and knows its job."""
    return {
        "sagemaker_program": program,
        "sagemaker_submit_directory": source,
        "sagemaker_container_log_level": LOG_LEVEL,
        "sagemaker_job_name": name,
        "sagemaker_region": region,
    }
