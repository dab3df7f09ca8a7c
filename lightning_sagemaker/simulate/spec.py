"""What is to be simulated: one frozen description, checked before anything starts."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.arguments import Carried, carry
from lightning_sagemaker.launch_modes import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "v2": ("none", "torch_distributed", "smdistributed", "pytorchddp", "mpi"),
    "v3": ("none", "torch_distributed", "mpi"),
}
NUMBER_OPTIONS = ("-np", "--np", "-n", "--n")
SMDDP_DISTRIBUTIONS = ("smdistributed", "pytorchddp")  # the same thing: the container cannot tell them apart
MPIRUN_DISTRIBUTIONS = (*SMDDP_DISTRIBUTIONS, "mpi")

# The type that SMDDP was made for: a script sees every variable that the toolkit can set, EFA's included.
DEFAULT_INSTANCE_TYPE = "ml.p4d.24xlarge"

# Characters that the toolkit accepts in the name of an entry point; it refuses the job over any other.
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHANNEL = re.compile(r"[A-Za-z0-9.\-_]{1,64}")


class SimulationError(ValueError):
    """A simulation was described wrongly; nothing was started."""


@dataclass(frozen=True)
class Simulation:
    """A SageMaker training job to run on this machine.

    Everything is checked at construction; a wrong description raises `SimulationError`.

    Args:
        script: The training script, a ``.py`` file. Its folder is the job's source folder.
        arguments: The script's arguments. They arrive as given; what hyperparameters can carry is also in
            ``hyperparameters.json``, ``SM_HPS`` and ``SM_HP_NAME``.
        hosts: Number of simulated hosts: ``algo-1`` to ``algo-N``.
        processes_per_host: World size divided by hosts; also the number of GPUs that a host claims (``SM_NUM_GPUS``).
        distribution: ``none``, ``torch_distributed``, ``smdistributed``, ``pytorchddp`` or ``mpi`` (SDK v2); ``none``,
            ``torch_distributed`` (`Torchrun`) or ``mpi`` (`MPI`) (SDK v3).
        sdk: ``v2`` (Estimator and the image's training toolkit) or ``v3`` (ModelTrainer and its container drivers).
        leader: SDK v2 with a distribution: number of the host that leads. The default is the last host, since on AWS
            the leader is often not ``algo-1``.
        environment: The job's own environment variables.
        channels: Input channels: name to folder or file.
        sharded: Names of the channels that are ``ShardedByS3Key``: each host gets a part of the files.
        instance_type: Instance type that the job believes in.
        smddp: Whether the image has SMDDP; the stand-in plays it. The default is yes where the distribution asks for it
            (``smdistributed``, ``pytorchddp``). No image of PyTorch 2.6 or later has it.
        mpi_options: Further options of mpirun (``custom_mpi_options`` in v2, ``mpi_additional_options`` in v3).
        work_dir: Folder for the hosts' files, empty or to be made. The default is a temporary folder.
        keep: Keep a temporary folder also when the job succeeded.
        grace: Seconds between SIGTERM and SIGKILL when the job is ended.
    """

    script: Path
    arguments: tuple[str, ...] = ()
    hosts: int = 1
    processes_per_host: int = 1
    distribution: str = "none"
    sdk: str = "v2"
    leader: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, Path] = field(default_factory=dict)
    sharded: tuple[str, ...] = ()
    instance_type: str = DEFAULT_INSTANCE_TYPE
    smddp: bool | None = None
    mpi_options: tuple[str, ...] = ()
    work_dir: Path | None = None
    keep: bool = False
    grace: float = 5.0

    def __post_init__(self) -> None:
        _check_launch(self)
        _check_leader(self)
        _check_options(self)
        _check_script(self)
        _check_files(self)
        _ = self.carried  # checks the arguments

    @property
    def host_names(self) -> list[str]:
        """Hosts in the order of ``resourceconfig.json``: lexicographic, so ``algo-10`` comes before ``algo-2``."""
        return sorted(f"algo-{number}" for number in range(1, self.hosts + 1))

    @property
    def group_hosts(self) -> list[str]:
        """Hosts in the order of ``instance_groups[].hosts``, which AWS does not sort."""
        first = f"algo-{self.leader or self.hosts}"
        return [first, *(host for host in self.host_names if host != first)]

    @property
    def launcher_hosts(self) -> list[str]:
        """Hosts in the order in which ranks are given out."""
        return self.group_hosts if self.sdk == "v2" and self.distribution != "none" else self.host_names

    @property
    def leader_host(self) -> str:
        """Host of rank 0."""
        return self.launcher_hosts[0]

    @property
    def uses_mpirun(self) -> bool:
        """Whether the ranks are started by mpirun."""
        return self.distribution in MPIRUN_DISTRIBUTIONS

    @property
    def asks_for_smddp(self) -> bool:
        """Whether the toolkit starts the ranks through ``smddprun``, where the image has it."""
        return self.distribution in SMDDP_DISTRIBUTIONS

    @property
    def has_smddp(self) -> bool:
        """Whether the image has SMDDP."""
        return self.asks_for_smddp if self.smddp is None else self.smddp

    @property
    def world_size(self) -> int:
        """What mpirun's ``-np`` ends up as: the last one given wins, as in Open MPI 4.

        SDK v3 passes the processes of one host instead of their total: without a repair all ranks land on the first.
        """
        wanted = self.processes_per_host * (1 if self.sdk == "v3" and self.uses_mpirun else self.hosts)
        for option, text in itertools.pairwise(self.mpi_options):
            if option in NUMBER_OPTIONS:
                if not text.isdecimal() or not 1 <= int(text) <= self.hosts * self.processes_per_host:
                    slots = self.hosts * self.processes_per_host
                    raise SimulationError(
                        f"mpi option {option} is {text!r}, expected 1 to {slots} (hosts x processes per host). "
                        "HINT: --mpi-option=-np --mpi-option=4",
                    )
                wanted = int(text)
        return wanted

    @property
    def carried(self) -> Carried:
        """How a job carries the arguments to the script."""
        return carry(self.arguments)

    @property
    def hyperparameters(self) -> dict[str, float | str]:
        """The arguments that hyperparameters carry."""
        return dict(self.carried.hyperparameters)


def _check_launch(job: Simulation) -> None:
    if job.sdk not in DISTRIBUTIONS:
        raise SimulationError(f"sdk is {job.sdk!r}, expected one of: {', '.join(DISTRIBUTIONS)}. HINT: --sdk v2.")
    legal = DISTRIBUTIONS[job.sdk]
    if job.distribution not in legal:
        other = [sdk for sdk, names in DISTRIBUTIONS.items() if job.distribution in names]
        word = f"--launcher {job.distribution}." if job.distribution in MODES else "--distribution none."
        hint = f"{job.distribution!r} exists with --sdk {other[0]}." if other else word
        raise SimulationError(
            f"distribution is {job.distribution!r}, expected with SDK {job.sdk} one of: {', '.join(legal)}."
            f" HINT: {hint}",
        )
    for name, count in (("hosts", job.hosts), ("processes-per-host", job.processes_per_host)):
        if count < 1:
            raise SimulationError(f"{name} is {count}, expected at least 1. HINT: pass --{name} 1 or more.")


def _check_options(job: Simulation) -> None:
    if job.mpi_options and not job.uses_mpirun:
        with_mpirun = [name for name in DISTRIBUTIONS[job.sdk] if name in MPIRUN_DISTRIBUTIONS]
        raise SimulationError(
            f"mpi options are {list(job.mpi_options)}, but distribution {job.distribution!r} starts no mpirun. "
            f"HINT: drop --mpi-option, or choose one of: {', '.join(with_mpirun)}.",
        )
    if job.grace < 0:
        raise SimulationError(f"grace is {job.grace}, expected 0 or more seconds. HINT: the default is 5.")
    _ = job.world_size  # checks the options that change it
    for name in job.environment:
        if not _VARIABLE.fullmatch(name):
            raise SimulationError(
                f"environment variable is named {name!r}, expected letters, digits and underscores. "
                "HINT: pass --env NAME=VALUE.",
            )


def _check_leader(job: Simulation) -> None:
    if job.leader is not None:
        if job.sdk != "v2" or job.distribution == "none":
            raise SimulationError(
                f"leader is {job.leader}, but SDK {job.sdk} with distribution {job.distribution!r} always has its "
                "first host lead. HINT: drop --leader, or use SDK v2 with a distribution.",
            )
        if not 1 <= job.leader <= job.hosts:
            raise SimulationError(
                f"leader is {job.leader}, expected the number of a host: 1 to {job.hosts}. HINT: --leader 2 is algo-2.",
            )


def _check_script(job: Simulation) -> None:
    if not job.script.is_file():
        raise SimulationError(
            f"script is {str(job.script)!r}, which is not a file. HINT: paths are relative to {str(Path.cwd())!r}.",
        )
    if job.script.suffix != ".py":
        raise SimulationError(
            f"script is {job.script.name!r}, expected a .py file. HINT: every launcher of SageMaker but the plain one "
            "starts Python scripts only.",
        )
    if job.sdk == "v2" and not _ENTRY_POINT.fullmatch(job.script.name):
        raise SimulationError(
            f"script is {job.script.name!r}; SageMaker's toolkit refuses an entry point with other characters than "
            "letters, digits and . _ + -, or with a leading - or +. HINT: rename the script.",
        )


def _check_files(job: Simulation) -> None:
    if job.work_dir is not None and job.work_dir.exists():
        if not job.work_dir.is_dir():
            raise SimulationError(f"work-dir is {str(job.work_dir)!r}, which is not a folder. HINT: name a new folder.")
        if any(job.work_dir.iterdir()):
            raise SimulationError(
                f"work-dir is {str(job.work_dir)!r}, which is not empty, and a job begins with empty folders. "
                "HINT: name a new folder, or leave --work-dir out for a temporary one.",
            )
    if unknown := [name for name in job.sharded if name not in job.channels]:
        raise SimulationError(
            f"sharded channel {unknown[0]!r} is none of the channels ({', '.join(job.channels)}). "
            "HINT: --channel NAME=PATH:sharded."
        )
    for name, path in job.channels.items():
        if not _CHANNEL.fullmatch(name):
            raise SimulationError(
                f"channel is named {name!r}, expected up to 64 letters, digits and . - _ HINT: --channel NAME=PATH."
            )
        if not path.exists():
            raise SimulationError(
                f"channel {name!r} is {str(path)!r}, which does not exist. HINT: --channel NAME=PATH."
            )
