"""The environment that a worker gets, and the commands that are started: by SDK v2's toolkit, by SDK v3's drivers.

Matches ``sagemaker-training`` 5.1.4 with ``sagemaker-pytorch-training`` 3.0.0, and the drivers of ``sagemaker-train``
1.27.0; the tests compare with the real ones.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.arguments import launcher_line
from lightning_sagemaker.simulate import container
from lightning_sagemaker.simulate.container import ADDRESS, GROUP, INTERFACE, Cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_sagemaker.simulate.spec import Simulation

# Variable of every PyTorch image; it names what the toolkit runs.
FRAMEWORK_MODULE = "sagemaker_pytorch_container.training:main"
SMDDP_SERVER_PORT = 7592
# Types of which the toolkit knows that they have EFA, and EFA with RDMA, whatever a type really has.
RDMA_TYPES = (
    *("ml.p4d.24xlarge", "ml.p4de.24xlarge", "ml.p5.48xlarge", "ml.p5e.48xlarge", "ml.trn1.32xlarge"),
    "ml.p6e-gb200.36xlarge",
)
EFA_TYPES = (*RDMA_TYPES, "ml.g4dn.8xlarge", "ml.g4dn.12xlarge", "ml.g5.48xlarge", "ml.p3dn.24xlarge")


def python_command(job: Simulation) -> list[str]:
    """Command of the launcher-less mode, the same on every host."""
    return [sys.executable, *(["--"] if job.sdk == "v2" else []), job.entry, *job.arguments]


def torchrun_command(cluster: Cluster, host: str) -> list[str]:
    """Command of torchrun on a host; of several hosts, with the leader's address and this host's node rank."""
    job, beside = cluster.job, Path(sys.executable).with_name("torchrun")
    torchrun = [str(beside)] if os.access(beside, os.X_OK) else [sys.executable, "-m", "torch.distributed.run"]
    options: dict[str, object] = {"nnodes": job.hosts, "nproc_per_node": job.processes_per_host}
    if job.hosts > 1:
        options |= {"master_addr": ADDRESS, "master_port": cluster.port, "node_rank": job.launcher_hosts.index(host)}
    for name, value in options.items():
        torchrun += [f"--{name}", str(value)] if job.sdk == "v2" else [f"--{name}={value}"]
    return [*torchrun, job.entry, *job.arguments]


def worker_environment(cluster: Cluster, host: str, environment: Mapping[str, str]) -> dict[str, str]:
    """A container's environment with what is added before the worker, or the launcher of the workers, is started."""
    job = cluster.job
    if job.sdk == "v2":
        more, found = _v2_variables(cluster, host, environment.get("PYTHONPATH", "")), _v2_described(cluster, host)
    else:
        more, found = {}, _v3_described(cluster, host)
    more |= {f"SM_{name.upper()}": _as_text(job, value) for name, value in found.items()}
    if job.distribution == "torch_distributed":
        more |= {"NCCL_PROTO": "simple", "NCCL_SOCKET_IFNAME": INTERFACE}
        if job.instance_type in EFA_TYPES:
            more["FI_PROVIDER"] = "efa"
        if job.instance_type in RDMA_TYPES:
            more |= {"FI_EFA_USE_DEVICE_RDMA": "1", "RDMAV_FORK_SAFE": "1"}
    return {**environment, **more}


def _v2_variables(cluster: Cluster, host: str, python_path: str) -> dict[str, str]:
    """Variables of the toolkit that are not called ``SM_<NAME>`` alone."""
    found = {
        "SAGEMAKER_TRAINING_MODULE": FRAMEWORK_MODULE,
        "SAGEMAKER_JOB_NAME": cluster.name,
        "SAGEMAKER_REGION": cluster.region,
        "CURRENT_HOST": host,
        "NCCL_SOCKET_IFNAME": INTERFACE,
        "NCCL_IB_DISABLE": "1",
        "NCCL_DEBUG": "WARN",
        "MASTER_ADDR": ADDRESS,
        "MASTER_PORT": str(cluster.port),
        # The toolkit writes out its whole sys.path; beyond the source folder that is the interpreter's own.
        "PYTHONPATH": os.pathsep.join(path for path in (str(cluster.source(host)), python_path) if path),
    }
    with suppress(importlib.metadata.PackageNotFoundError):
        found["SM_DLC_TORCH_VERSION"] = importlib.metadata.version("torch")
    return found


def _v2_described(cluster: Cluster, host: str) -> dict[str, Any]:
    """Everything that becomes a variable ``SM_<NAME>`` in SDK v2."""
    job, base = cluster.job, cluster.base(host)
    distribution_groups = [] if job.distribution == "none" else [GROUP]
    channels = {name: str(base / "input/data" / name) for name in job.channels}
    shared = {
        **container.described(cluster, host),
        "current_instance_group": GROUP,
        "current_instance_group_hosts": job.group_hosts,
        "distribution_instance_groups": distribution_groups,
        "framework_module": FRAMEWORK_MODULE,
        "instance_groups": [GROUP],
        "instance_groups_dict": {GROUP: container.instance_group(job)},
        "is_hetero": False,
        "module_dir": str(cluster.source(host)),
        "module_name": job.entry.removesuffix(".py"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output/intermediate"),
        "user_entry_point": job.entry,
    }
    training_env = {
        **shared,
        "additional_framework_parameters": container.framework_parameters(job),
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
        "framework_params": container.framework_parameters(job),
        "hps": job.hyperparameters,
        "training_env": training_env,
        "user_args": launcher_line(job.hyperparameters),
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name}": value for name, value in job.hyperparameters.items()},
    }


def _v3_described(cluster: Cluster, host: str) -> dict[str, Any]:
    """Everything that becomes a variable ``SM_<NAME>`` in SDK v3."""
    job, base = cluster.job, cluster.base(host)
    channels = {name: str(base / "input/data" / name) for name in container.input_data_config(job)}
    hps = {name: _deserialized(text) for name, text in container.hyperparameters(cluster, host).items()}
    shared: dict[str, Any] = {
        **container.described(cluster, host),
        "input_data_dir": str(base / "input/data"),
        "master_addr": ADDRESS,
        "master_port": cluster.port,
    }
    found = {
        **shared,
        "channels": list(channels),
        "current_host_rank": job.host_names.index(host),
        "entry_script": job.entry,
        "host_count": job.hosts,
        "hps": hps,
        "output_dir": str(base / "output"),
        "output_failure": str(base / "output/failure"),
        "source_dir": str(cluster.source(host)),
        "training_env": {**shared, "channel_input_dirs": channels, "hyperparameters": hps, "job_name": cluster.name},
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name.replace('-', '_')}": value for name, value in hps.items()},
    }
    if config := container.distributed_config(job):
        found |= {
            "distributed_driver_dir": str(base / "input/data/sm_drivers/distributed_drivers"),
            "distributed_config": config,
        }
    return found


def _deserialized(text: str) -> object:
    """What the drivers make of a hyperparameter: JSON where it is JSON (``1e-3`` becomes 0.001), else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_text(job: Simulation, value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":")) if job.sdk == "v2" else json.dumps(value)
