"""The environment that a worker gets, and the commands that are started: by SDK v2's toolkit, by SDK v3's drivers.

Matches ``sagemaker-training`` 5.1.4 with ``sagemaker-pytorch-training`` 3.0.0, and the drivers of ``sagemaker-train``
1.27.0; the tests compare with the real ones, and have a table of what differs. Beyond what stands here, a simulated
host lacks TRAINING_JOB_ARN, as local mode does, and LD_PRELOAD: the image's library reads a fixed path below /opt/ml.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.arguments import launcher_line
from lightning_sagemaker.environment import RANK_PROCESS
from lightning_sagemaker.job import FOREIGN_RANK
from lightning_sagemaker.launch_modes import LOG_LEVEL
from lightning_sagemaker.options import installed_version
from lightning_sagemaker.simulate import container
from lightning_sagemaker.simulate.container import ADDRESS, GROUP, INTERFACE, Cluster
from lightning_sagemaker.simulate.processes import MARK

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.spec import Simulation

# Variable of every PyTorch image; it names what the toolkit runs.
_FRAMEWORK_MODULE = "sagemaker_pytorch_container.training:main"
# Types of which the toolkit knows that they have EFA, and EFA with RDMA, whatever a type really has.
RDMA_TYPES = (
    *("ml.p4d.24xlarge", "ml.p4de.24xlarge", "ml.p5.48xlarge", "ml.p5e.48xlarge", "ml.trn1.32xlarge"),
    "ml.p6e-gb200.36xlarge",
)
EFA_TYPES = (*RDMA_TYPES, "ml.g4dn.8xlarge", "ml.g4dn.12xlarge", "ml.g5.48xlarge", "ml.p3dn.24xlarge")

FAKE_SMDDP = Path(__file__).with_name("fake_smddp")  # for the folder of an image's SMDDP library
_SITE = Path(__file__).with_name("site")

# Set by launchers, schedulers and SageMaker. A simulation started inside one of them must not inherit its world.
_FOREIGN_PREFIXES = (
    *("HYDRA_", "JSM_", "LSB_", "OMPI_", "PBS_", "PET_", "PMIX_", "PMI_", "PRTE_", "SAGEMAKER_", "SLURM_"),
    *("SMDATAPARALLEL_", "SM_", "SRUN_", "TORCHELASTIC_", "TRAINING_JOB_"),
)
_FOREIGN_NAMES = (
    *(FOREIGN_RANK, RANK_PROCESS),  # of a rank that starts a simulation
    *("CURRENT_HOST", "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("NODE_RANK", "PYTHON_EXEC", "RANK", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "WORLD_SIZE"),
)


def command(cluster: Cluster, host: str) -> list[str]:
    """Command of a host's only process, or of its torchrun: of several, with the leader's address and the node rank."""
    job, beside = cluster.job, Path(sys.executable).with_name("torchrun")
    if job.distribution == "none":
        return [sys.executable, *(["--"] if job.sdk == "v2" else []), job.entry, *job.arguments]
    torchrun = [str(beside)] if os.access(beside, os.X_OK) else [sys.executable, "-m", "torch.distributed.run"]
    options: dict[str, object] = {"nnodes": job.hosts, "nproc_per_node": job.processes_per_host}
    if job.hosts > 1:
        options |= {"master_addr": ADDRESS, "master_port": cluster.port, "node_rank": job.launcher_hosts.index(host)}
    for name, value in options.items():
        torchrun += [f"--{name}", str(value)] if job.sdk == "v2" else [f"--{name}={value}"]
    return [*torchrun, job.entry, *job.arguments]


def environment(cluster: Cluster, host: str, devices: str) -> dict[str, str]:
    """The environment of a host: ours without other jobs' variables, then the container's own, then the SDK's."""
    job = cluster.job
    found = {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN_NAMES and not name.startswith(_FOREIGN_PREFIXES)
    }
    if "PYTHONPATH" in found:  # the worker starts in another folder
        found["PYTHONPATH"] = path_of(*(os.path.abspath(one) for one in found["PYTHONPATH"].split(os.pathsep) if one))  # noqa: PTH100
    found |= {"PYTHONUNBUFFERED": "1", **job.environment}  # the first is set by images
    if job.has_smddp:  # installed in the image: after whatever the user puts on the path
        for name, folder in (("PYTHONPATH", FAKE_SMDDP), ("PATH", FAKE_SMDDP / "bin")):
            found[name] = path_of(found.get(name), folder)
    if job.distribution == "none" and job.processes_per_host > 1:  # whose lines come through one pipe
        found["PYTHONPATH"] = path_of(found.get("PYTHONPATH"), _SITE)
    described = (_v2_described if job.sdk == "v2" else _v3_described)(cluster, host)
    if job.sdk == "v2":
        found |= _v2_variables(cluster, host, found.get("PYTHONPATH"))
    if job.distribution == "torch_distributed":
        found |= {"NCCL_PROTO": "simple", "NCCL_SOCKET_IFNAME": INTERFACE}
        if job.instance_type in EFA_TYPES:
            found["FI_PROVIDER"] = "efa"
        if job.instance_type in RDMA_TYPES:
            found |= {"FI_EFA_USE_DEVICE_RDMA": "1", "RDMAV_FORK_SAFE": "1"}
    return {
        **found,
        **{f"SM_{name.upper()}": _as_text(job, value) for name, value in described.items()},
        MARK: cluster.mark,  # the end of a container ends all that is in it
        "TRAINING_JOB_NAME": cluster.name,
        "SAGEMAKER_BASE_DIR": str(cluster.base(host)),  # /opt/ml is one folder, and root's
        "TMPDIR": str(cluster.temporary(host)),  # /tmp may be the machine's (own_disk.py)
        "GLOO_SOCKET_IFNAME": INTERFACE,  # gloo would ask the host's name for its address
        "CUDA_VISIBLE_DEVICES": devices,  # hosts share one machine's GPUs
    }


def share_devices(job: Simulation) -> dict[str, str] | None:
    """``CUDA_VISIBLE_DEVICES`` of each host, a part of ours; None where there are fewer GPUs than ranks."""
    try:
        listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        return None
    devices = [str(index) for index in range(sum(line.startswith("GPU ") for line in listing.stdout.splitlines()))]
    if devices and "CUDA_VISIBLE_DEVICES" in os.environ:
        given = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        devices = list(itertools.takewhile(lambda device: device not in ("", "-1"), given))  # CUDA ends there too
    each = job.processes_per_host
    if len(devices) < job.hosts * each:
        return None
    return {host: ",".join(devices[i * each : (i + 1) * each]) for i, host in enumerate(job.host_names)}


def path_of(*parts: str | Path | None) -> str:
    """Those of the parts that there are, as PATH and its like have them."""
    return os.pathsep.join(str(part) for part in parts if part)


def _v2_variables(cluster: Cluster, host: str, python_path: str | None) -> dict[str, str]:
    """Variables of the toolkit that are not called ``SM_<NAME>`` alone."""
    found = {
        "SAGEMAKER_TRAINING_MODULE": _FRAMEWORK_MODULE,
        "SAGEMAKER_JOB_NAME": cluster.name,
        "SAGEMAKER_REGION": cluster.region,
        "CURRENT_HOST": host,
        "NCCL_SOCKET_IFNAME": INTERFACE,
        "NCCL_IB_DISABLE": "1",
        "NCCL_DEBUG": "WARN",
        "MASTER_ADDR": ADDRESS,
        "MASTER_PORT": str(cluster.port),
        # The toolkit writes out its whole sys.path; beyond the source folder that is the interpreter's own.
        "PYTHONPATH": path_of(cluster.source(host), python_path),
    }
    if version := installed_version("torch"):
        found["SM_DLC_TORCH_VERSION"] = version
    return found


def _described(cluster: Cluster, host: str) -> dict[str, Any]:
    """What becomes a variable ``SM_<NAME>`` in both SDKs."""
    job, base = cluster.job, cluster.base(host)
    return {
        "current_host": host,
        "current_instance_type": job.instance_type,
        "hosts": job.host_names,
        "input_config_dir": str(base / "input/config"),
        "input_data_config": container.input_data_config(job),
        "input_dir": str(base / "input"),
        "log_level": LOG_LEVEL,
        "model_dir": str(base / "model"),
        "network_interface_name": INTERFACE,
        "num_cpus": multiprocessing.cpu_count(),
        "num_gpus": job.processes_per_host,
        "num_neurons": 0,
        "output_data_dir": str(base / "output/data"),
        "resource_config": container.resource_config(cluster, host),
    }


def _v2_described(cluster: Cluster, host: str) -> dict[str, Any]:
    """Everything that becomes a variable ``SM_<NAME>`` in SDK v2."""
    job, base = cluster.job, cluster.base(host)
    distributed = job.distribution != "none"
    channels = {name: str(base / "input/data" / name) for name in job.channels}
    parameters, hyperparameters = container.framework_parameters(job), job.hyperparameters
    described = _described(cluster, host)
    shared = {
        **described,
        "current_instance_group": GROUP,
        "current_instance_group_hosts": job.group_hosts,
        "distribution_instance_groups": [GROUP] if distributed else [],
        "framework_module": _FRAMEWORK_MODULE,
        "instance_groups": [GROUP],
        "instance_groups_dict": {GROUP: described["resource_config"]["instance_groups"][0]},
        "is_hetero": False,
        "module_dir": str(cluster.source(host)),
        "module_name": job.entry.removesuffix(".py"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output/intermediate"),
        "user_entry_point": job.entry,
    }
    training_env = {
        **shared,
        "additional_framework_parameters": parameters,
        "channel_input_dirs": channels,
        "distribution_hosts": job.group_hosts if distributed else [],
        "hyperparameters": hyperparameters,
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
        "framework_params": parameters,
        "hps": hyperparameters,
        "training_env": training_env,
        "user_args": launcher_line(hyperparameters),
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name}": value for name, value in hyperparameters.items()},
    }


def _v3_described(cluster: Cluster, host: str) -> dict[str, Any]:
    """Everything that becomes a variable ``SM_<NAME>`` in SDK v3."""
    job, base = cluster.job, cluster.base(host)
    channels = {name: str(base / "input/data" / name) for name in container.input_data_config(job)}
    hps: dict[str, Any] = dict(container.hyperparameters(cluster, host))
    for name, text in hps.items():
        with suppress(ValueError):  # what is JSON becomes its value: ``1e-3`` is 0.001
            hps[name] = json.loads(text)
    shared: dict[str, Any] = {
        **_described(cluster, host),
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
        found["distributed_driver_dir"] = str(base / "input/data/sm_drivers/distributed_drivers")
        found["distributed_config"] = config
    return found


def _as_text(job: Simulation, value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":")) if job.sdk == "v2" else json.dumps(value)
