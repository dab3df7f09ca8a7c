"""What is to be simulated: one frozen description, checked before anything starts."""

from __future__ import annotations

import itertools
import math
import signal
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning_sagemaker.instances import near
from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.script import Script, check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "v2": ("none", "torch_distributed", "smdistributed", "pytorchddp", "mpi"),
    "v3": ("none", "torch_distributed", "mpi"),
}
NUMBER_OPTIONS = ("-np", "--np", "-n", "--n")
V3_CHANNELS = ("code", "sm_drivers")  # by which SDK v3 ships the source folder and its drivers
_SMDDP_DISTRIBUTIONS = ("smdistributed", "pytorchddp")  # the same thing: the container cannot tell them apart
_MPIRUN_DISTRIBUTIONS = (*_SMDDP_DISTRIBUTIONS, "mpi")

# What the processes of a job get when SageMaker takes its hosts away: a signal, and seconds until the rest is killed.
INTERRUPTIONS = {
    # The first process of AWS's own images is a shell, which forwards no signal (sagemaker-training-toolkit#125,
    # deep-learning-containers#632): the script sees nothing of an interruption and is killed in the end.
    "kill": (signal.SIGKILL, 0.0),
    # A container is stopped by SIGTERM to its first process, and killed 120 s later (AWS's developer guide,
    # your-algorithms-training-algo-dockerfile.md).
    "sigterm": (signal.SIGTERM, 120.0),
}


class SimulationError(ValueError):
    """A simulation was described wrongly; nothing was started."""


@dataclass(frozen=True)
class Simulation(Script):
    """A SageMaker training job to run on this machine.

    Everything is checked at construction; a wrong description raises `SimulationError`.

    Args:
        script: The training script, a ``.py`` file.
        arguments: The script's arguments. They arrive as given; what hyperparameters can carry is also in
            ``hyperparameters.json``, ``SM_HPS`` and ``SM_HP_NAME``.
        hosts: Number of simulated hosts: ``algo-1`` to ``algo-N``.
        processes_per_host: World size divided by hosts; also the number of GPUs that a host claims (``SM_NUM_GPUS``).
        distribution: ``none``, ``torch_distributed``, ``smdistributed``, ``pytorchddp`` or ``mpi`` (SDK v2); ``none``,
            ``torch_distributed`` (`Torchrun`) or ``mpi`` (`MPI`) (SDK v3).
        launcher: ``torchrun``, ``smddprun``, ``mpirun`` or ``none``: the distribution in the words of `submit`.
        sdk: ``v2`` (Estimator and the image's training toolkit) or ``v3`` (ModelTrainer and its container drivers).
        leader: SDK v2 with a distribution: number of the host that leads. The default is the last host, since on AWS
            the leader is often not ``algo-1``.
        environment: The job's own environment variables.
        channels: Input channels: name to folder or file.
        sharded: Names of the channels that are ``ShardedByS3Key``: each host gets a part of the files.
        instance_type: Instance type that the job believes in.
        smddp: Whether the image has (a fake) SMDDP. The default is yes where the distribution asks for it
            (``smdistributed``, ``pytorchddp``). No image of PyTorch 2.6 or later has it.
        mpi_options: Further options of mpirun (``custom_mpi_options`` in v2, ``mpi_additional_options`` in v3).
        work_dir: Folder for the hosts' files, empty or to be made. The default is a temporary folder.
        keep: Keep the temporary folder.
        shared_disk: Let hosts see each other's files. By default each has a disk of its own, as in a job, where the
            system has mount namespaces: the folders of all hosts, and what is new in ``/tmp``, are the host's own. One
            host that is not started again needs none.
        verbose: Show every line that a failing job writes to its standard error. By default a traceback is held back
            until it is known whether the job fails; of one that does, the report has what matters.
        grace: Seconds between SIGTERM and SIGKILL when the job is ended.
        checkpoints: Folder that stands for the job's place for checkpoints in S3; it is made where it is missing. Each
            host begins with a copy of it, and what a host writes or removes below ``/opt/ml/checkpoints`` is written
            or removed there. Without it the job has no checkpoint configuration, unless it starts again.
        interrupt_after: Seconds after which the job is interrupted, as a spot job is.
        interrupt_by: What user code gets of an interruption: ``kill`` (SIGKILL alone, as in AWS's own images, whose
            first process forwards nothing) or ``sigterm`` (SIGTERM, and SIGKILL two minutes later, as in an image
            whose first process forwards signals).
        restart: Start again after the interruption: the same job on new hosts, with its checkpoints and nothing else,
            led by another host where the launch mode lets it.
        source_dir: The job's source folder, which holds the script; by default the script's. Each host gets a copy of
            what `submit` would send of it, and starts the script there.
    """

    script: str | Path
    arguments: Sequence[str] = ()
    hosts: int = 1
    processes_per_host: int = 1
    distribution: str = "none"
    launcher: Literal["torchrun", "smddprun", "mpirun", "none"] | None = None
    sdk: Literal["v2", "v3"] = "v2"
    leader: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str | Path] = field(default_factory=dict)
    sharded: Sequence[str] = ()
    # The type that SMDDP was made for: a script sees every variable that the toolkit can set, EFA's included.
    instance_type: str = "ml.p4d.24xlarge"
    smddp: bool | None = None
    mpi_options: Sequence[str] = ()
    work_dir: str | Path | None = None
    keep: bool = False
    shared_disk: bool = False
    verbose: bool = False
    grace: float = 5.0
    checkpoints: str | Path | None = None
    interrupt_after: float | None = None
    interrupt_by: Literal["kill", "sigterm"] = "kill"
    restart: bool = False
    source_dir: str | Path | None = None

    def __post_init__(self) -> None:
        if self.launcher in MODES and self.distribution == "none":
            object.__setattr__(self, "distribution", MODES[self.launcher].distribution)
        try:
            check(self, self.environment, self.channels, by_toolkit=self.sdk == "v2")
        except (ValueError, FileNotFoundError) as error:
            raise SimulationError(str(error)) from None
        _check_launch(self)
        _check_options(self)
        _check_files(self)
        _check_interruption(self)

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

    def started_again(self) -> Simulation:
        """The job's second start: not interrupted, and led by the next host where the launch mode lets another lead."""
        leader = self.leader
        if self.launcher_hosts == self.group_hosts and self.hosts > 1:
            leader = (self.leader or self.hosts) % self.hosts + 1
        # The work folder is in use by now, and would not pass the check for an empty one.
        return replace(self, leader=leader, interrupt_after=None, restart=False, work_dir=None)

    @property
    def uses_mpirun(self) -> bool:
        """Whether the ranks are started by mpirun."""
        return self.distribution in _MPIRUN_DISTRIBUTIONS

    @property
    def asks_for_smddp(self) -> bool:
        """Whether the toolkit starts the ranks through ``smddprun``, where the image has it."""
        return self.distribution in _SMDDP_DISTRIBUTIONS

    @property
    def has_smddp(self) -> bool:
        """Whether the image has SMDDP."""
        return self.asks_for_smddp if self.smddp is None else self.smddp

    @property
    def world_size(self) -> int:
        """What mpirun's ``-np`` ends up as: the last one given wins, as in Open MPI 4.

        SDK v3 passes the processes of one host instead of their total: without a repair all ranks land on the first.
        """
        slots = self.hosts * self.processes_per_host
        wanted = self.processes_per_host if self.sdk == "v3" and self.uses_mpirun else slots
        for option, text in itertools.pairwise(self.mpi_options):
            if option in NUMBER_OPTIONS:
                if not text.isdecimal() or not 1 <= int(text) <= slots:
                    raise SimulationError(
                        f"mpi option {option} is {text!r}, expected 1 to {slots} (hosts x processes per host). "
                        "HINT: --mpi-option=-np --mpi-option=4"
                    )
                wanted = int(text)
        return wanted

    @property
    def hyperparameters(self) -> dict[str, float | str]:
        """The arguments that hyperparameters carry."""
        return dict(self.carried.hyperparameters)


def _check_launch(job: Simulation) -> None:
    if job.sdk not in DISTRIBUTIONS:
        raise SimulationError(f"sdk is {job.sdk!r}, expected one of: {', '.join(DISTRIBUTIONS)}. HINT: --sdk v2.")
    if job.launcher is not None and (job.launcher not in MODES or job.distribution != MODES[job.launcher].distribution):
        raise SimulationError(
            f"launcher is {job.launcher!r} and distribution {job.distribution!r}, expected one of"
            f" them, and of launchers {', '.join(MODES)}. HINT: torchrun is the distribution torch_distributed."
        )
    legal = DISTRIBUTIONS[job.sdk]
    if job.distribution not in legal:
        other = [sdk for sdk, names in DISTRIBUTIONS.items() if job.distribution in names]
        word = f"--launcher {job.distribution}." if job.distribution in MODES else "--distribution none."
        hint = f"{job.distribution!r} exists with --sdk {other[0]}." if other else word
        raise SimulationError(
            f"distribution is {job.distribution!r}, expected with SDK {job.sdk} one of: {', '.join(legal)}. HINT:"
            f" {hint}"
        )
    for name, count in (("hosts", job.hosts), ("processes-per-host", job.processes_per_host)):
        if count < 1:
            raise SimulationError(f"{name} is {count}, expected at least 1. HINT: pass --{name} 1 or more.")
    if meant := near(job.instance_type):
        raise SimulationError(
            f"instance-type is {job.instance_type!r}, expected ml.FAMILY.SIZE. HINT: {', '.join(meant)}?"
        )
    if job.leader is not None:
        if job.sdk != "v2" or job.distribution == "none":
            raise SimulationError(
                f"leader is {job.leader}, but SDK {job.sdk} with distribution {job.distribution!r} always has its first"
                " host lead. HINT: drop --leader, or use SDK v2 with a distribution."
            )
        if not 1 <= job.leader <= job.hosts:
            raise SimulationError(
                f"leader is {job.leader}, expected the number of a host: 1 to {job.hosts}. HINT: --leader 2 is algo-2."
            )


def _check_options(job: Simulation) -> None:
    if job.mpi_options and not job.uses_mpirun:
        with_mpirun = [name for name in DISTRIBUTIONS[job.sdk] if name in _MPIRUN_DISTRIBUTIONS]
        raise SimulationError(
            f"mpi options are {list(job.mpi_options)}, but distribution {job.distribution!r} starts no mpirun. HINT:"
            f" drop --mpi-option, or choose one of: {', '.join(with_mpirun)}."
        )
    if not 0 <= job.grace < math.inf:
        raise SimulationError(f"grace is {job.grace}, expected 0 or more seconds. HINT: the default is 5.")
    _ = job.world_size  # checks the options that change it


def _check_files(job: Simulation) -> None:
    if job.work_dir is not None and Path(job.work_dir).exists():
        if not Path(job.work_dir).is_dir():
            raise SimulationError(f"work-dir is {str(job.work_dir)!r}, which is not a folder. HINT: name a new folder.")
        if any(Path(job.work_dir).iterdir()):
            raise SimulationError(
                f"work-dir is {str(job.work_dir)!r}, which is not empty, and a job begins with empty folders. HINT:"
                " name a new folder, or leave --work-dir out for a temporary one."
            )
    if unknown := [name for name in job.sharded if name not in job.channels]:
        raise SimulationError(
            f"sharded channel {unknown[0]!r} is none of the channels ({', '.join(job.channels)}). HINT: --channel"
            " NAME=PATH:sharded."
        )
    if job.sdk == "v3" and (taken := [name for name in job.channels if name in V3_CHANNELS]):
        raise SimulationError(
            f"channel is named {taken[0]!r}, as one of SDK v3's own ({', '.join(V3_CHANNELS)}). HINT: another name."
        )
    for name, path in job.channels.items():
        if not Path(path).exists():
            raise SimulationError(
                f"channel {name!r} is {str(path)!r}, which does not exist. HINT: --channel NAME=PATH."
            )


def _check_interruption(job: Simulation) -> None:
    if job.interrupt_by not in INTERRUPTIONS:
        raise SimulationError(
            f"interrupt-by is {job.interrupt_by!r}, expected one of: {', '.join(INTERRUPTIONS)}. HINT: kill is what"
            " AWS's own images do."
        )
    if job.interrupt_after is None and job.restart:
        raise SimulationError(
            "restart is asked for, but nothing interrupts the job. HINT: --interrupt-after SECONDS --restart."
        )
    if job.interrupt_after is not None and not 0 < job.interrupt_after < math.inf:
        raise SimulationError(
            f"interrupt-after is {job.interrupt_after}, expected more than 0 seconds. HINT: a time at which the script"
            " has written a checkpoint: --interrupt-after 30."
        )
    if job.checkpoints is not None and Path(job.checkpoints).exists():
        if not Path(job.checkpoints).is_dir():
            raise SimulationError(
                f"checkpoints is {str(job.checkpoints)!r}, which is not a folder. HINT: name a folder, or a new one."
            )
        try:
            tempfile.TemporaryFile(dir=job.checkpoints).close()
        except OSError as error:  # before the training, which would be lost
            raise SimulationError(
                f"checkpoints is {str(job.checkpoints)!r}, in which no file can be made ({error.strerror}). HINT: name"
                " a folder of your own, or a new one."
            ) from None
