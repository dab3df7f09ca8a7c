"""What is to be simulated: one frozen description, checked before anything starts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "v2": ("none", "torch_distributed", "smdistributed", "pytorchddp", "mpi"),
    "v3": ("none", "torch_distributed", "mpi"),
}
MPIRUN_DISTRIBUTIONS = ("smdistributed", "pytorchddp", "mpi")

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
        arguments: The script's arguments. They arrive as given; those of the form ``--name value`` are also the job's
            hyperparameters (``hyperparameters.json``, ``SM_HPS``, ``SM_HP_NAME``).
        hosts: Number of simulated hosts: ``algo-1`` to ``algo-N``.
        processes_per_host: World size divided by hosts; also the number of GPUs that a host claims (``SM_NUM_GPUS``).
        distribution: ``none``, ``torch_distributed``, ``smdistributed``, ``pytorchddp`` or ``mpi`` (SDK v2); ``none``,
            ``torch_distributed`` (`Torchrun`) or ``mpi`` (`MPI`) (SDK v3).
        sdk: ``v2`` (Estimator and the image's training toolkit) or ``v3`` (ModelTrainer and its container drivers).
        leader: SDK v2 with a distribution: number of the host that leads. The default is the last host, since on AWS
            the leader is often not ``algo-1``.
        environment: The job's own environment variables.
        channels: Input channels: name to folder or file.
        instance_type: Instance type that the job believes in.
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
    instance_type: str = DEFAULT_INSTANCE_TYPE
    mpi_options: tuple[str, ...] = ()
    work_dir: Path | None = None
    keep: bool = False
    grace: float = 5.0

    def __post_init__(self) -> None:
        _check_launch(self)
        _check_script(self)
        _check_files(self)
        _check_hyperparameters(self)

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
    def hyperparameters(self) -> dict[str, object]:
        """The arguments that a job can express: a number where the text survives the round trip, else a string."""
        return dict(parse_arguments(self.arguments)[0])

    @property
    def inexpressible(self) -> list[str]:
        """The arguments that no hyperparameter can express (flags, positional ones, repeated names)."""
        return parse_arguments(self.arguments)[1]


def parse_arguments(arguments: tuple[str, ...]) -> tuple[dict[str, object], list[str]]:
    """Split a script's arguments into hyperparameters and what cannot be one.

    Args:
        arguments: The arguments as given.

    Returns:
        The hyperparameters by name, and the arguments left over.
    """
    hyperparameters: dict[str, object] = {}
    rest: list[str] = []
    index = 0
    while index < len(arguments):
        option, equals, value = arguments[index].partition("=")
        is_option = re.fullmatch(r"--[A-Za-z][\w.-]*|-[A-Za-z]", option) is not None
        has_next = index + 1 < len(arguments) and not re.match(r"-[A-Za-z-]", arguments[index + 1])
        name = option.lstrip("-")
        if is_option and name not in hyperparameters and (equals or has_next):
            hyperparameters[name] = _number_or_text(value if equals else arguments[index + 1])
            index += 1 if equals else 2
        else:
            rest.append(arguments[index])
            index += 1
    return hyperparameters, rest


def _number_or_text(text: str) -> object:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and math.isfinite(number):
            return number
    return text


def _check_launch(job: Simulation) -> None:
    if job.sdk not in DISTRIBUTIONS:
        raise SimulationError(f"sdk is {job.sdk!r}, expected one of: {', '.join(DISTRIBUTIONS)}.")
    legal = DISTRIBUTIONS[job.sdk]
    if job.distribution not in legal:
        other = [sdk for sdk, names in DISTRIBUTIONS.items() if job.distribution in names]
        hint = f" HINT: {job.distribution!r} exists with --sdk {other[0]}." if other else ""
        raise SimulationError(
            f"distribution is {job.distribution!r}, expected with SDK {job.sdk} one of: {', '.join(legal)}.{hint}",
        )
    for name, count in (("hosts", job.hosts), ("processes-per-host", job.processes_per_host)):
        if count < 1:
            raise SimulationError(f"{name} is {count}, expected at least 1. HINT: pass --{name} 1 or more.")
    if job.leader is not None:
        if job.sdk != "v2" or job.distribution == "none":
            raise SimulationError(
                f"leader is {job.leader}, but SDK {job.sdk} with distribution {job.distribution!r} always has its first "
                "host lead. HINT: drop --leader, or use SDK v2 with a distribution.",
            )
        if not 1 <= job.leader <= job.hosts:
            raise SimulationError(
                f"leader is {job.leader}, expected the number of a host: 1 to {job.hosts}. HINT: --leader 2 is algo-2.",
            )
    if job.mpi_options and not job.uses_mpirun:
        raise SimulationError(
            f"mpi options are {list(job.mpi_options)}, but distribution {job.distribution!r} starts no mpirun. "
            f"HINT: drop --mpi-option, or choose one of: {', '.join(n for n in legal if n in MPIRUN_DISTRIBUTIONS)}.",
        )
    for name in job.environment:
        if not _VARIABLE.fullmatch(name):
            raise SimulationError(
                f"environment variable is named {name!r}, expected letters, digits and underscores. "
                "HINT: pass --env NAME=VALUE.",
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
    for name, path in job.channels.items():
        if not _CHANNEL.fullmatch(name):
            raise SimulationError(f"channel is named {name!r}, expected up to 64 letters, digits and . - _")
        if not path.exists():
            raise SimulationError(f"channel {name!r} is {str(path)!r}, which does not exist. HINT: --channel NAME=PATH.")


def _check_hyperparameters(job: Simulation) -> None:
    broken = [name for name, value in job.hyperparameters.items() if "'" in f"{name}{value}"]
    if job.sdk == "v3" and broken:
        raise SimulationError(
            f"argument --{broken[0]} has an apostrophe in its value; SDK v3 writes hyperparameters into a shell file "
            "between apostrophes without escaping them, so a real job would not start. HINT: take the apostrophe out.",
        )
