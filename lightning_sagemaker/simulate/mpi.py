"""The mpirun modes: the command, the agent in place of ssh, and the ranks' variables if mpirun is not installed.

Several hosts on one machine: mpirun starts its daemon on each host of ``--host`` through a launch agent, by default
ssh. Ours gets the same arguments (a host and a shell command) and runs the command right here, in the environment that
an ssh login on that host would give. The names ``algo-N`` need not resolve, every daemon counts its own ranks, and so
the local ranks and sizes are mpirun's own. Works with Open MPI 4.1 (``orted``) and 5.0 (``prted``).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.simulate.container import ADDRESS, INTERFACE
from lightning_sagemaker.simulate.spec import NUMBER_OPTIONS
from lightning_sagemaker.simulate.toolkit import EFA_TYPES, RDMA_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_sagemaker.simulate.container import Cluster
    from lightning_sagemaker.simulate.spec import Simulation

_OPEN_MPI_5 = 5


def find(hosts: int) -> tuple[tuple[str, int] | None, str]:
    """An mpirun that can simulate several hosts, or in words why there is none: its path, and its major version."""
    beside = Path(sys.executable).with_name("mpirun")
    path = str(beside) if os.access(beside, os.X_OK) else shutil.which("mpirun")
    if path is None:
        return None, "mpirun is not installed"
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{path} does not run ({error})"
    version = re.search(r"\(Open\s?(?:MPI|RTE)\) (\d+)\.", output)
    if version is None:
        return None, f"{path} is not Open MPI's"
    if int(version[1]) >= _OPEN_MPI_5 and hosts > 1 and not _has_network():
        # Its daemons refuse to meet on the loopback interface.
        return None, "Open MPI 5 plays several hosts only on a machine with a network"
    return (path, int(version[1])), ""


def forwarded(cluster: Cluster, leader: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that the launcher passes with ``-x``, ``None`` for a value of the leader's environment."""
    job, names = cluster.job, ["LD_LIBRARY_PATH", "PATH"]
    found: dict[str, str | None] = {"NCCL_SOCKET_IFNAME": INTERFACE}
    if job.sdk == "v2":
        debug = re.search(r"--NCCL_DEBUG[= ](\S+)", " ".join(job.mpi_options))  # the one option that it reads itself
        found["NCCL_DEBUG"] = debug[1] if debug else "INFO"
    if job.asks_for_smddp:
        found |= {"FI_PROVIDER": "efa", "RDMAV_FORK_SAFE": "1"}
        if job.hosts == 1:
            found["SMDATAPARALLEL_USE_SINGLENODE"] = "1"
        else:
            found |= {"SMDATAPARALLEL_USE_HOMOGENEOUS": "1", "SAGEMAKER_INSTANCE_TYPE": job.instance_type}
            found |= {"SMDATAPARALLEL_SERVER_ADDR": ADDRESS, "SMDATAPARALLEL_SERVER_PORT": "7592"}
    elif job.sdk == "v2":
        found["NCCL_MIN_NRINGS"] = "4"
    if job.instance_type in EFA_TYPES:
        found |= {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple"}
    if job.instance_type in RDMA_TYPES:
        found["FI_EFA_USE_DEVICE_RDMA"] = "1"
    if job.distribution == "mpi":
        names += ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
        if job.sdk == "v2":
            # The leader's own description of itself, sent to every host: the toolkit's doing, not ours.
            names += [name for name in leader if name.startswith("SM_") and name != "SM_DLC_TORCH_VERSION"]
            names.append("PYTHONPATH")
    return found | {name: None for name in names if name in leader}


def command(path: str, major: int, cluster: Cluster, leader: Mapping[str, str], agent: str) -> list[str]:
    """Mpirun's command up to the ranks' own: these fill host after host, bound to nothing, as the images have it."""
    job = cluster.job
    # No shared memory: its segments are named by machine and local rank, which hosts on one machine have in common.
    parameters = {"pml": "ob1", "btl": "self,tcp", "btl_tcp_if_include": INTERFACE}
    if major >= _OPEN_MPI_5:
        arguments = [path, "--prtemca", "plm_ssh_agent", agent, "--prtemca", "plm_ssh_no_tree_spawn", "1"]
    else:
        arguments = [path, "-mca", "plm_rsh_agent", agent, "-mca", "plm_rsh_no_tree_spawn", "1"]
        parameters |= {"oob_tcp_if_include": INTERFACE, "orte_abort_on_non_zero_status": "1"}
        parameters["plm_rsh_num_concurrent"] = str(job.hosts)
    hosts = ",".join(f"{host}:{job.processes_per_host}" for host in job.launcher_hosts)
    arguments += ["--host", hosts, "-np", str(job.world_size), "--allow-run-as-root"]
    options: list[str] = []  # the user's without those that are answered elsewhere
    given = iter(job.mpi_options)
    for option in given:
        if option in NUMBER_OPTIONS or (job.sdk == "v2" and option == "--NCCL_DEBUG"):
            next(given, None)
        elif not (job.sdk == "v2" and option.startswith("--NCCL_DEBUG=")):
            options.append(option)
    if not any("map-by" in option for option in options):
        arguments += ["--map-by", "slot:oversubscribe"]
    if not any("bind-to" in option for option in options):
        arguments += ["--bind-to", "none"]
    for name, value in parameters.items():
        arguments += ["-mca", name, value]
    for name, own in forwarded(cluster, leader).items():
        arguments += ["-x", name if own is None else f"{name}={own}"]
    return arguments + options


def write_agent(folder: Path, environments: Mapping[str, Mapping[str, str]], on: Mapping[str, Sequence[str]]) -> str:
    """Write the launch agent: called with a host and a command, it runs that there, behind what ``on`` has for it."""
    for host, environment in environments.items():
        pairs = " ".join(shlex.quote(f"{name}={value}") for name, value in environment.items())
        write_script(folder / f"login-{host}", f'exec env -i {pairs} {shlex.join(on[host])} /bin/sh -c "$*"\n')
    agent = folder / "agent"
    write_script(agent, f'host=$1\nshift\nexec {shlex.quote(str(folder))}/login-"$host" "$@"\n')
    return str(agent)


def rank_variables(job: Simulation, rank: int) -> dict[str, str]:
    """Variables that mpirun itself would set for a rank: those that scripts and libraries read."""
    size, each = job.world_size, job.processes_per_host
    local_size = min(each, size - rank // each * each)
    return {
        "OMPI_COMM_WORLD_SIZE": str(size),
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(local_size),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank % each),
        "OMPI_COMM_WORLD_NODE_RANK": str(rank % each),
        "OMPI_UNIVERSE_SIZE": str(job.hosts * each),
    }


def write_script(path: Path, body: str) -> None:
    """Write a script for the shell."""
    path.write_bytes(os.fsencode(f"#!/bin/sh\n{body}"))  # variables and paths may be no UTF-8
    path.chmod(0o755)


def _has_network() -> bool:
    """Whether this machine has an address besides the loopback's; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: only the routing table is asked
        except OSError:
            return False
        return not str(probe.getsockname()[0]).startswith("127.")
