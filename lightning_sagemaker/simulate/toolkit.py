"""SDK v2: the environment that the image's training toolkit gives a worker, and the commands that it starts.

Matches ``sagemaker-training`` 5.1.4 with ``sagemaker-pytorch-training`` 3.0.0; the tests compare with the real ones.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.arguments import launcher_line
from lightning_sagemaker.simulate.container import (
    ADDRESS,
    GROUP,
    INTERFACE,
    Cluster,
    described,
    framework_parameters,
    instance_group,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_sagemaker.simulate.spec import Simulation

# Variable of every PyTorch image; it names what the toolkit runs.
FRAMEWORK_MODULE = "sagemaker_pytorch_container.training:main"
SMDDP_SERVER_PORT = 7592

# What the toolkit knows, whatever a type really has.
_RDMA_TYPES = frozenset(
    f"ml.{name}"
    for name in (
        "p4d.24xlarge",
        "p4de.24xlarge",
        "p5.48xlarge",
        "p5e.48xlarge",
        "trn1.32xlarge",
        "p6e-gb200.36xlarge",
    )
)
_EFA_TYPES = _RDMA_TYPES | {"ml.g4dn.8xlarge", "ml.g4dn.12xlarge", "ml.g5.48xlarge", "ml.p3dn.24xlarge"}


def has_efa(instance_type: str) -> bool:
    """Whether the toolkit believes that the type has EFA."""
    return instance_type in _EFA_TYPES


def has_rdma(instance_type: str) -> bool:
    """Whether the toolkit believes that the type's EFA has RDMA."""
    return instance_type in _RDMA_TYPES


def python_command(python: str, job: Simulation) -> list[str]:
    """Command of the launcher-less mode, the same on every host."""
    return [python, "--", job.entry, *job.arguments]


def torchrun_command(torchrun: list[str], cluster: Cluster, host: str) -> list[str]:
    """Command of ``torch_distributed`` on a host.

    Args:
        torchrun: Command that starts torchrun.
        cluster: The run.
        host: Name of the host.

    Returns:
        The command; on several hosts with the leader's address and this host's node rank.
    """
    job = cluster.job
    command = [*torchrun, "--nnodes", str(job.hosts), "--nproc_per_node", str(job.processes_per_host)]
    if job.hosts > 1:
        command += ["--master_addr", ADDRESS, "--master_port", str(cluster.port)]
        command += ["--node_rank", str(job.launcher_hosts.index(host))]
    return [*command, job.entry, *job.arguments]


def worker_environment(cluster: Cluster, host: str, container: Mapping[str, str]) -> dict[str, str]:
    """Add to a container's environment what the toolkit adds before it starts the launcher.

    Args:
        cluster: The run.
        host: Name of the host.
        container: The environment in which the container starts.

    Returns:
        The environment of the worker, or of the launcher that starts the workers.
    """
    job = cluster.job
    environment = {
        **container,
        "SAGEMAKER_TRAINING_MODULE": FRAMEWORK_MODULE,
        "SAGEMAKER_JOB_NAME": cluster.name,
        "SAGEMAKER_REGION": cluster.region,
        "CURRENT_HOST": host,
        "NCCL_SOCKET_IFNAME": INTERFACE,
        "NCCL_IB_DISABLE": "1",
        "NCCL_DEBUG": "WARN",
        "MASTER_ADDR": ADDRESS,
        "MASTER_PORT": str(cluster.port),
    }
    version = _torch_version()
    if version:
        environment["SM_DLC_TORCH_VERSION"] = version
    for name, value in _described(cluster, host).items():
        environment[f"SM_{name.upper()}"] = _as_text(value)
    # The toolkit writes out its whole sys.path; beyond the source folder that is the interpreter's own.
    paths = [str(cluster.source(host)), container.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if job.distribution == "torch_distributed":
        environment |= launcher_variables(job.instance_type)
    return environment


def launcher_variables(instance_type: str) -> dict[str, str]:
    """Variables that both the toolkit and SDK v3's driver set before they start torchrun."""
    variables = {"NCCL_PROTO": "simple", "NCCL_SOCKET_IFNAME": INTERFACE}
    if has_efa(instance_type):
        variables["FI_PROVIDER"] = "efa"
    if has_rdma(instance_type):
        variables |= {"FI_EFA_USE_DEVICE_RDMA": "1", "RDMAV_FORK_SAFE": "1"}
    return variables


def _described(cluster: Cluster, host: str) -> dict[str, Any]:
    """Everything that becomes a variable ``SM_<NAME>``."""
    job, base = cluster.job, cluster.base(host)
    distribution_groups = [] if job.distribution == "none" else [GROUP]
    channels = {name: str(base / "input/data" / name) for name in job.channels}
    shared = {
        **described(cluster, host),
        "current_instance_group": GROUP,
        "current_instance_group_hosts": job.group_hosts,
        "distribution_instance_groups": distribution_groups,
        "framework_module": FRAMEWORK_MODULE,
        "instance_groups": [GROUP],
        "instance_groups_dict": {GROUP: instance_group(job)},
        "is_hetero": False,
        "module_dir": str(cluster.source(host)),
        "module_name": job.entry.removesuffix(".py"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output/intermediate"),
        "user_entry_point": job.entry,
    }
    training_env = {
        **shared,
        "additional_framework_parameters": framework_parameters(job),
        "channel_input_dirs": channels,
        "distribution_hosts": job.group_hosts if distribution_groups else [],
        "hyperparameters": job.hyperparameters,
        "is_master": host == job.leader_host,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": job.has_smddp,
        "job_name": cluster.name,
        "master_hostname": job.leader_host,
        "topology": [],
    }
    return {
        **shared,
        "channels": sorted(channels),
        "framework_params": framework_parameters(job),
        "hps": job.hyperparameters,
        "training_env": training_env,
        "user_args": launcher_line(job.hyperparameters),
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name}": value for name, value in job.hyperparameters.items()},
    }


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _torch_version() -> str | None:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
