"""What to start: one process per host, or one per rank, and where the ranks' output goes."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.arguments import launcher_line
from lightning_sagemaker.simulate import drivers, mpi, own_disk, toolkit, worker_environment
from lightning_sagemaker.simulate.worker_environment import FAKE_SMDDP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_sagemaker.simulate.container import Cluster


_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Launch:
    """A process that the simulation starts itself.

    Args:
        host: Simulated host on which it runs.
        command: Its command.
        environment: Its whole environment.
        folder: Its working directory.
        rank: Its global rank, where it is itself a worker with a rank.
    """

    host: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    rank: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that a run starts.

    Args:
        launches: The processes, the leader's first.
        ranks: Ranks that a launcher starts, each writing to its own pipe in `pipes`.
        pipes: Folder of the ranks' pipes.
        notes: What differs from the real thing on this machine, for the user.
        patience: Seconds that a launcher has after its last rank has gone.
    """

    launches: list[Launch]
    ranks: range
    pipes: Path
    notes: list[str]
    patience: float


def make(
    cluster: Cluster,
    pipes: Path,
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
    *,
    own_disks: bool = False,
) -> Plan:
    """Decide what to start, and write the small scripts that it needs.

    Args:
        cluster: The run; its hosts' folders exist.
        pipes: Folder for the scripts and the ranks' pipes; mpirun wants no blank in its path.
        environ: The caller's environment.
        python: The interpreter that stands for the container's.
        own_disks: Whether each host has a disk of its own.

    Returns:
        The plan.
    """
    job = cluster.job
    environ = os.environ if environ is None else environ
    sdk = drivers if job.sdk == "v3" else toolkit
    devices = worker_environment.share_devices(job, environ)
    notes = [] if devices else ["ranks run on the CPU (fewer GPUs than ranks on this machine)"]
    if job.has_smddp:
        notes.append("the image has SMDDP: a fake with its documented limits, not AWS's library. HINT: --no-smddp")
    if job.carried.by_entry_script:
        notes.append(
            "the arguments arrive by the entry script that `lightning-sagemaker submit` adds; a job of an estimator of"
            f" your own has hyperparameters only: {shlex.join(launcher_line(job.hyperparameters)) or 'none'}"
        )
    for name in job.sharded:
        empty = [host for host in job.host_names if not any((cluster.base(host) / "input/data" / name).iterdir())]
        if empty:
            notes.append(f"channel {name} has fewer files than hosts: {', '.join(empty)} get none, as on SageMaker")
    environments = {}
    # What stands before each command that is run on a host.
    on = {host: own_disk.on(str(cluster.root), host, python) if own_disks else [] for host in job.host_names}
    for host in job.launcher_hosts:
        base = worker_environment.container_environment(cluster, host, (devices or {}).get(host, ""), environ)
        environments[host] = sdk.worker_environment(cluster, host, base)

    ranks = range(0)
    if job.uses_mpirun:
        launches, ranks, more = _mpirun(cluster, environments, on, pipes, python)
        notes += more
    elif job.distribution == "torch_distributed":
        ranks = range(job.hosts * job.processes_per_host)
        # torchrun starts the workers with PYTHON_EXEC; its own arguments stay exactly the toolkit's.
        worker = _rank_script(cluster, pipes, python, "RANK", environments)
        torchrun = _torchrun(python)
        launches = [
            Launch(
                host,
                on[host] + sdk.torchrun_command(torchrun, cluster, host),
                env | {"PYTHON_EXEC": worker},
                cluster.source(host),
            )
            for host, env in environments.items()
        ]
    else:
        command = sdk.python_command(python, job)
        if job.processes_per_host > 1:
            for environment in environments.values():
                paths = (environment.get("PYTHONPATH"), str(Path(__file__).with_name("site")))
                environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        launches = [Launch(host, on[host] + command, env, cluster.source(host)) for host, env in environments.items()]
    # mpirun may hang then; torchrun's agents wait for each other, 300 s at most, longer than seconds on a busy machine.
    return Plan(launches, ranks, pipes, notes, patience=10.0 if job.uses_mpirun else 330.0)


def _mpirun(
    cluster: Cluster,
    environments: dict[str, dict[str, str]],
    on: dict[str, list[str]],
    pipes: Path,
    python: str,
) -> tuple[list[Launch], range, list[str]]:
    job, notes = cluster.job, []
    size = job.world_size
    leader = environments[job.leader_host]
    program, missing = mpi.find(python, job.hosts)
    module = ["-m", "mpi4py"] if program and mpi.has_mpi4py() else []
    if not module:
        notes.append(
            "ranks are started as plain Python; SageMaker starts python -m mpi4py. HINT: pip install "
            "'lightning-sagemaker[mpi]'",
        )
    if size < job.hosts * job.processes_per_host:
        notes.append(
            f"mpirun starts {size} of {job.hosts * job.processes_per_host} ranks (-np); SDK v3 passes the processes of "
            "one host. HINT: mpi_additional_options=['-np', '<hosts x processes>']; here --mpi-option=-np "
            "--mpi-option=<n>",
        )
    script = [*module, job.entry, *job.arguments]
    wrapper = [str(FAKE_SMDDP / "bin" / "smddprun")] if job.asks_for_smddp and job.has_smddp else []
    if program:
        worker = _rank_script(cluster, pipes, python, "OMPI_COMM_WORLD_RANK", environments)
        agent = mpi.write_agent(pipes, environments, on)
        command = [*mpi.command(program, cluster, leader, agent), *wrapper, worker, *script]
        launch = Launch(job.leader_host, command, dict(leader), cluster.source(job.leader_host))
        return [launch], range(size), notes
    notes.append(f"{missing}: ranks are started directly, with the variables that mpirun would set")
    same = mpi.resolved(mpi.forwarded(cluster, leader), leader)
    launches = []
    for rank in range(size):
        host = job.launcher_hosts[rank // job.processes_per_host]
        environment = environments[host] | same | mpi.rank_variables(job, rank)
        program_of_rank = [*wrapper, *_from_a_shell(python, environment)] if wrapper else [python]
        launches.append(Launch(host, [*on[host], *program_of_rank, *script], environment, cluster.source(host), rank))
    return launches, range(0), notes


def _from_a_shell(python: str, environment: Mapping[str, str]) -> list[str]:
    """Command by which a shell starts the interpreter without a loss of variables.

    A shell loses those with names like SM_HP_LEARNING-RATE; env does not.
    """
    lost = [f"{name}={value}" for name, value in environment.items() if not _SHELL_NAME.fullmatch(name)]
    return ["env", *lost, python] if lost else [python]


def _torchrun(python: str) -> list[str]:
    beside = Path(python).with_name("torchrun")
    return [str(beside)] if os.access(beside, os.X_OK) else [python, "-m", "torch.distributed.run"]


def _rank_script(
    cluster: Cluster, pipes: Path, python: str, rank_variable: str, environments: Mapping[str, Mapping[str, str]]
) -> str:
    """Write the script by which a rank gets its own output.

    It becomes the interpreter (``exec``), so that signals and the exit code are the rank's own. The first line that
    it writes says on which host the rank runs: only the launcher knows it before that.
    """
    folder = shlex.quote(str(pipes))
    for host, environment in environments.items():
        program = _from_a_shell(python, environment)
        # And it adds some of its own.
        added = " ".join(name for name in ("OLDPWD", "PWD", "SHLVL") if name not in environment)
        # mpirun starts all ranks in the leader's folder, which has the same name on the others of a real cluster.
        text = f'cd {shlex.quote(str(cluster.source(host)))}\nunset {added}\nset -- {shlex.join(program)} "$@"\n'
        (pipes / f"{host}.sh").write_bytes(os.fsencode(text))
    script = pipes / "python"
    script.write_text(
        "#!/bin/sh\n"
        "unset PYTHON_EXEC\n"
        "base=${SAGEMAKER_BASE_DIR%/ml}\n"
        "host=${base##*/}\n"
        f"exec >{folder}/${{{rank_variable}}}.out 2>{folder}/${{{rank_variable}}}.err\n"
        'echo "$host"\n'
        f'. {folder}/"$host".sh\n'
        'exec "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return str(script)
