"""SDK v3: the environment that the container drivers give a worker, and the commands that they start.

Matches the drivers of ``sagemaker-train`` 1.27.0; the tests compare with the real ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.simulate.container import (
    ADDRESS,
    Cluster,
    described,
    distributed_config,
    hyperparameters,
    input_data_config,
)
from lightning_sagemaker.simulate.toolkit import launcher_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_sagemaker.simulate.spec import Simulation


def python_command(python: str, job: Simulation) -> list[str]:
    """Command of the launcher-less mode, the same on every host."""
    return [python, job.entry, *job.arguments]


def torchrun_command(torchrun: list[str], cluster: Cluster, host: str) -> list[str]:
    """Command of ``Torchrun`` on a host.

    Args:
        torchrun: Command that starts torchrun.
        cluster: The run.
        host: Name of the host.

    Returns:
        The command; on several hosts with the leader's address and this host's node rank.
    """
    job = cluster.job
    command = [*torchrun, f"--nnodes={job.hosts}", f"--nproc_per_node={job.processes_per_host}"]
    if job.hosts > 1:
        command += [f"--master_addr={ADDRESS}", f"--master_port={cluster.port}"]
        command += [f"--node_rank={job.host_names.index(host)}"]
    return [*command, job.entry, *job.arguments]


def worker_environment(cluster: Cluster, host: str, container: Mapping[str, str]) -> dict[str, str]:
    """Add to a container's environment what the drivers add before they start the launcher.

    Args:
        cluster: The run.
        host: Name of the host.
        container: The environment in which the container starts.

    Returns:
        The environment of the worker, or of the launcher that starts the workers.
    """
    job = cluster.job
    environment = dict(container)
    for name, value in _described(cluster, host).items():
        environment[f"SM_{name.upper()}"] = _as_text(value)
    if job.distribution == "torch_distributed":
        environment |= launcher_variables(job.instance_type)
    return environment


def _described(cluster: Cluster, host: str) -> dict[str, Any]:
    """Everything that becomes a variable ``SM_<NAME>``."""
    job, base = cluster.job, cluster.base(host)
    channels = {name: str(base / "input/data" / name) for name in input_data_config(job)}
    hps = {name: _deserialized(text) for name, text in hyperparameters(cluster, host).items()}
    shared: dict[str, Any] = {
        **described(cluster, host),
        "input_data_dir": str(base / "input/data"),
        "master_addr": ADDRESS,
        "master_port": cluster.port,
    }
    training_env = {
        **shared,
        "channel_input_dirs": channels,
        "hyperparameters": hps,
        "job_name": cluster.name,
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
        "training_env": training_env,
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name.replace('-', '_')}": value for name, value in hps.items()},
    }
    if distributed_config(job):
        found["distributed_driver_dir"] = str(base / "input/data/sm_drivers/distributed_drivers")
        found["distributed_config"] = distributed_config(job)
    return found


def _deserialized(text: str) -> object:
    """What the drivers make of a hyperparameter: JSON where it is JSON (``1e-3`` becomes 0.001), else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
