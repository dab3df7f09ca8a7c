"""A simulated host: the folders and configuration files that a container finds under ``/opt/ml``."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job.channels import SHARDED
from lightning_sagemaker.launch_modes import MODES, PROCESSES, flags, toolkit
from lightning_sagemaker.simulate import source
from lightning_sagemaker.simulate.checkpoints import files
from lightning_sagemaker.simulate.spec import V3_CHANNELS

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.checkpoints import CheckpointPlace
    from lightning_sagemaker.simulate.spec import Simulation
    from lightning_sagemaker.source_folder import Source

GROUP = "homogeneousCluster"
# Every simulated host is this machine, met on its loopback interface: algo-N resolves on no laptop without root.
INTERFACE = "lo0" if sys.platform == "darwin" else "lo"
ADDRESS = "127.0.0.1"
_PORTS = range(20000, 32768)  # below those that Linux and macOS give to outgoing connections

# What the SDK still sends for the class HuggingFace; for the class PyTorch it sends that of smdistributed.
_PYTORCHDDP = "sagemaker_pytorch_ddp_enabled"


@dataclass(frozen=True)
class Cluster:
    """A simulation, with all values that differ from run to run."""

    job: Simulation
    name: str  # of the training job
    root: Path  # of this run; each host has its own folder below it
    port: int  # a free one, in place of 7777, so that two simulations on one machine do not meet
    region: str  # that the job believes in
    sent: Source  # what of the source folder each host gets
    place: CheckpointPlace | None = None  # of the checkpoints, if the job has a checkpoint configuration
    # In the environment of this start's processes alone: a copy for a second start has another one.
    mark: str = field(init=False, default_factory=lambda: secrets.token_hex(16))

    def base(self, host: str) -> Path:
        """Folder in place of ``/opt/ml`` on a host."""
        return self.root / host / "ml"

    def temporary(self, host: str) -> Path:
        """The host's own ``TMPDIR``."""
        return self.root / host / "tmp"

    def source(self, host: str) -> Path:
        """Folder in which the host's workers start: the source folder, where the SDK puts it."""
        return self.base(host) / ("input/data/code" if self.job.sdk == "v3" else "code")


def free_port() -> int:
    """A free TCP port outside the range from which the system chooses ports for connections."""
    for port in secrets.SystemRandom().sample(_PORTS, 100):  # two processes may have the same seed
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind((ADDRESS, port))
            return port
    raise OSError(
        f"Of 100 ports from {_PORTS[0]} to {_PORTS[-1]} none is free at {ADDRESS}. HINT: does a sandbox or a firewall"
        " forbid to listen there?"
    )


def resource_config(cluster: Cluster, host: str) -> dict[str, Any]:
    """Content of ``resourceconfig.json``: hosts sorted, but those of the only instance group, the leader first."""
    job = cluster.job
    group = {"instance_group_name": GROUP, "instance_type": job.instance_type, "hosts": job.group_hosts}
    return {
        "current_host": host,
        "current_instance_type": job.instance_type,
        "current_group_name": GROUP,
        "hosts": job.host_names,
        "instance_groups": [group],
        "network_interface_name": INTERFACE,
    }


def framework_parameters(job: Simulation) -> dict[str, Any]:
    """The hyperparameters by which SDK v2 tells the toolkit how to launch."""
    if job.sdk == "v3" or job.distribution == "none":
        return {}
    options = " ".join(job.mpi_options)
    parameters: dict[str, Any] = {
        "pytorchddp": {_PYTORCHDDP: True, str(MODES["smddprun"].options): options},
        **{mode.distribution: flags(launcher, options) for launcher, mode in MODES.items()},
    }[job.distribution]
    if job.distribution != "mpi":
        parameters["sagemaker_instance_type"] = job.instance_type
    # All of the toolkit's launchers read this one; here it stands for the GPUs that a laptop lacks.
    parameters[PROCESSES] = job.processes_per_host
    return parameters


def hyperparameters(cluster: Cluster, host: str) -> dict[str, str]:
    """Content of ``hyperparameters.json``: every value a string, JSON in v2, plain text in v3."""
    job = cluster.job
    if job.sdk == "v3":
        return {name: str(value) for name, value in job.hyperparameters.items()}
    launcher = toolkit(job.entry, str(cluster.source(host)), cluster.name, cluster.region)
    return {k: json.dumps(v) for k, v in {**job.hyperparameters, **framework_parameters(job), **launcher}.items()}


def input_data_config(job: Simulation) -> dict[str, dict[str, str]]:
    """Content of ``inputdataconfig.json``; SDK v3 ships source and drivers as two further channels."""
    names = [*job.channels, *(V3_CHANNELS if job.sdk == "v3" else ())]
    modes = {"TrainingInputMode": "File", "RecordWrapperType": "None"}
    return {
        name: {**modes, "S3DistributionType": SHARDED if name in job.sharded else "FullyReplicated"} for name in names
    }


def distributed_config(job: Simulation) -> dict[str, Any]:
    """Content of SDK v3's ``distributed.json``: empty without a launcher."""
    if job.distribution == "none":
        return {}
    options = {"mpi_additional_options": list(job.mpi_options) or None} if job.uses_mpirun else {"smp": None}
    return {"process_count_per_node": job.processes_per_host, **options}


def create(cluster: Cluster, host: str) -> None:
    """Make a host's folders and configuration files."""
    job, base = cluster.job, cluster.base(host)
    for folder in ("input/config", "input/data", "model", "output/data"):
        (base / folder).mkdir(parents=True)
    cluster.temporary(host).mkdir()
    source.copy(job, cluster.sent, cluster.source(host))
    for name, place in job.channels.items():
        path = Path(place).resolve()
        if name in job.sharded:
            _link(path, base / "input/data" / name, job.host_names.index(host), job.hosts)
        elif path.is_dir():
            (base / "input/data" / name).symlink_to(path, target_is_directory=True)
        else:  # a channel is a folder, also where it has one object
            _link(path, base / "input/data" / name)
    config = base / "input/config"
    _write(config / "resourceconfig.json", resource_config(cluster, host))
    _write(config / "hyperparameters.json", hyperparameters(cluster, host))
    _write(config / "inputdataconfig.json", input_data_config(job))
    if cluster.place is not None:
        cluster.place.copy_to(base / "checkpoints")
        kept = {"S3Uri": f"s3://simulated/{cluster.name}/checkpoints", "LocalPath": str(base / "checkpoints")}
        _write(config / "checkpointconfig.json", kept)
    if job.sdk == "v3":
        drivers = base / "input/data/sm_drivers"
        drivers.mkdir()
        _write(drivers / "sourcecode.json", {"source_dir": os.curdir, "entry_script": job.entry})
        _write(drivers / "distributed.json", distributed_config(job))


def _link(place: Path, folder: Path, index: int = 0, hosts: int = 1) -> None:
    """Link a host's part of a channel into a folder: every n-th file, in the order of S3 keys.

    SageMaker promises about 1/n of the objects to each host and does not say which; a host beyond their number gets
    none, as there.
    """
    folder.mkdir()
    root, keys = (place, list(files(place))) if place.is_dir() else (place.parent, [place.name])
    for key in keys[index::hosts]:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).symlink_to(root / key)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
