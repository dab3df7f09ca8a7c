"""What to start: one process per host, or one per rank, and where the ranks' output goes."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

from lightning_sagemaker.arguments import launcher_line
from lightning_sagemaker.script import VARIABLE
from lightning_sagemaker.simulate import mpi, own_disk, source, toolkit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lightning_sagemaker.simulate.container import Cluster


class Launch(NamedTuple):
    """A process that the simulation starts itself."""

    host: str
    command: list[str]
    environment: dict[str, str]  # the whole of it
    rank: int | None = None  # where it is itself a worker with a rank


class Plan(NamedTuple):
    """Everything that a run starts."""

    launches: list[Launch]  # the leader's first
    ranks: range  # those that a launcher starts, each writing to its own pipe
    pipes: Path
    notes: list[str]  # what differs from the real thing on this machine, for the user
    patience: float  # seconds that a launcher has after its last rank has gone


def make(cluster: Cluster, pipes: Path, *, own_disks: bool = False) -> Plan:
    """Decide what to start, and write the small scripts that it needs into ``pipes``."""
    job = cluster.job
    devices = toolkit.share_devices(job)
    notes = list(_notes(cluster, on_gpus=devices is not None))
    # What stands before each command that is run on a host.
    on = {host: own_disk.on(str(cluster.root), host) if own_disks else [] for host in job.host_names}
    environments = {
        host: toolkit.environment(cluster, host, devices[host] if devices else "") for host in job.launcher_hosts
    }
    if job.uses_mpirun:
        launches, ranks = _mpirun(cluster, environments, on, pipes, notes)
        # It may hang when its ranks have gone.
        return Plan(launches, ranks, pipes, notes, patience=10.0)
    ranks = range(0)
    if job.distribution == "torch_distributed":
        ranks = range(job.world_size)
        # torchrun starts the workers with PYTHON_EXEC; its own arguments stay exactly the toolkit's.
        worker = _rank_script(cluster, pipes, "RANK", environments)
        environments = {host: {**environment, "PYTHON_EXEC": worker} for host, environment in environments.items()}
    launches = [Launch(host, on[host] + toolkit.command(cluster, host), environments[host]) for host in environments]
    # torchrun's agents wait for each other, 300 s at most, longer than seconds on a busy machine.
    return Plan(launches, ranks, pipes, notes, patience=330.0)


def _notes(cluster: Cluster, *, on_gpus: bool) -> Iterator[str]:
    job = cluster.job
    slots = job.hosts * job.processes_per_host
    if not on_gpus:
        yield "ranks run on the CPU (fewer GPUs than ranks on this machine)"
    if job.has_smddp:
        yield "the image has SMDDP: a fake with its documented limits, not AWS's library. HINT: --no-smddp"
    if job.carried.by_entry_script:
        yield (
            "the arguments arrive by the entry script that `lightning-sagemaker submit` adds; a job of an estimator of"
            f" your own has hyperparameters only: {shlex.join(launcher_line(job.hyperparameters)) or 'none'}"
        )
    for name in job.sharded:
        empty = [host for host in job.host_names if not any((cluster.base(host) / "input/data" / name).iterdir())]
        if empty:
            yield f"channel {name} has fewer files than hosts: {', '.join(empty)} get none, as on SageMaker"
    if job.uses_mpirun and job.world_size < slots:
        yield (
            f"mpirun starts {job.world_size} of {slots} ranks (-np); SDK v3 passes the processes of one host. HINT:"
            " mpi_additional_options=['-np', '<hosts x processes>']; here --mpi-option=-np --mpi-option=<n>"
        )
    yield from source.notes(job, cluster.sent)


def _mpirun(
    cluster: Cluster, environments: dict[str, dict[str, str]], on: dict[str, list[str]], pipes: Path, notes: list[str]
) -> tuple[list[Launch], range]:
    """One mpirun, or without one every rank by itself; and the ranks that mpirun starts."""
    job, leader = cluster.job, cluster.job.leader_host
    program, missing = mpi.find(job.hosts)
    script = [job.entry, *job.arguments]
    if program and importlib.util.find_spec("mpi4py"):
        script = ["-m", "mpi4py", *script]
    else:
        notes.append(
            "ranks are started as plain Python; SageMaker starts python -m mpi4py. HINT: pip install"
            " 'lightning-sagemaker[mpi]'"
        )
    wrapper = [str(toolkit.FAKE_SMDDP / "bin" / "smddprun")] if job.asks_for_smddp and job.has_smddp else []
    if program:
        worker = _rank_script(cluster, pipes, "OMPI_COMM_WORLD_RANK", environments)
        agent = mpi.write_agent(pipes, environments, on)
        command = [*mpi.command(*program, cluster, environments[leader], agent), *wrapper, worker, *script]
        return [Launch(leader, command, environments[leader])], range(job.world_size)
    notes.append(f"{missing}: ranks are started directly, with the variables that mpirun would set")
    passed = mpi.forwarded(cluster, environments[leader])
    same = {name: environments[leader][name] if value is None else value for name, value in passed.items()}
    launches = []
    for rank in range(job.world_size):
        host = job.launcher_hosts[rank // job.processes_per_host]
        environment = environments[host] | same | mpi.rank_variables(job, rank)
        started = [*wrapper, *_from_a_shell(environment)] if wrapper else [sys.executable]
        launches.append(Launch(host, [*on[host], *started, *script], environment, rank))
    return launches, range(0)


def _from_a_shell(environment: Mapping[str, str]) -> list[str]:
    """Command by which a shell starts the interpreter: it loses variables like SM_HP_LEARNING-RATE, env does not."""
    lost = [f"{name}={value}" for name, value in environment.items() if not VARIABLE.fullmatch(name)]
    return ["env", *lost, sys.executable] if lost else [sys.executable]


def _rank_script(cluster: Cluster, pipes: Path, variable: str, environments: Mapping[str, Mapping[str, str]]) -> str:
    """Write the script by which a rank gets its own output; ``variable`` has its number.

    It becomes the interpreter (``exec``), so that signals and the exit code are the rank's own. The first lines that
    it writes say on which host the rank runs: only the launcher knows it before that.
    """
    folder = shlex.quote(str(pipes))
    for host, environment in environments.items():
        program = _from_a_shell(environment)
        # And it adds some of its own.
        added = " ".join(name for name in ("OLDPWD", "PWD", "SHLVL") if name not in environment)
        # mpirun starts all ranks in the leader's folder, which has the same name on the others of a real cluster.
        text = f'cd {shlex.quote(str(cluster.source(host)))}\nunset {added}\nset -- {shlex.join(program)} "$@"\n'
        mpi.write_script(pipes / f"{host}.sh", text)
    script = pipes / "python"
    mpi.write_script(
        script,
        "unset PYTHON_EXEC\n"
        "base=${SAGEMAKER_BASE_DIR%/ml}\n"
        "host=${base##*/}\n"
        f"exec >{folder}/${{{variable}}}.out 2>{folder}/${{{variable}}}.err\n"
        'echo "$host"; echo "$host" >&2\n'
        f'. {folder}/"$host".sh\n'
        'exec "$@"\n',
    )
    return str(script)
