"""What a simulation may be: each rule, with an error that says what was found, what is expected, and the fix."""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lightning_sagemaker.instances import near
from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.source_folder import holds_more

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.spec import Simulation

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "v2": ("none", "torch_distributed", "smdistributed", "pytorchddp", "mpi"),
    "v3": ("none", "torch_distributed", "mpi"),
}
V3_CHANNELS = ("code", "sm_drivers")  # by which SDK v3 ships the source folder and its drivers
NUMBER_OPTIONS = ("-np", "--np", "-n", "--n")
SMDDP_DISTRIBUTIONS = ("smdistributed", "pytorchddp")  # the same thing: the container cannot tell them apart
MPIRUN_DISTRIBUTIONS = (*SMDDP_DISTRIBUTIONS, "mpi")


class Interruption(NamedTuple):
    """What the processes of a job get when SageMaker takes its hosts away.

    Attributes:
        number: The signal.
        patience: Seconds until those that are left are killed.
    """

    number: signal.Signals
    patience: float


INTERRUPTIONS = {
    # The first process of AWS's own images is a shell, which forwards no signal (sagemaker-training-toolkit#125,
    # deep-learning-containers#632): the script sees nothing of an interruption and is killed in the end.
    "kill": Interruption(signal.SIGKILL, 0.0),
    # A container is stopped by SIGTERM to its first process, and killed 120 s later (AWS's developer guide,
    # your-algorithms-training-algo-dockerfile.md).
    "sigterm": Interruption(signal.SIGTERM, 120.0),
}

# Characters that the toolkit accepts in the name of an entry point; it refuses the job over any other.
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHANNEL = re.compile(r"(?!\.\.?$)[A-Za-z0-9.\-_]{1,64}")  # . and .. are folders already


class SimulationError(ValueError):
    """A simulation was described wrongly; nothing was started."""


def check(job: Simulation) -> None:
    """Check a description.

    Args:
        job: The description.

    Raises:
        SimulationError: Something in it is wrong.
    """
    _check_launch(job)
    _check_leader(job)
    _check_options(job)
    _check_interruption(job)
    _check_script(job)
    _check_files(job)


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
            f"distribution is {job.distribution!r}, expected with SDK {job.sdk} one of: {', '.join(legal)}."
            f" HINT: {hint}",
        )
    for name, count in (("hosts", job.hosts), ("processes-per-host", job.processes_per_host)):
        if count < 1:
            raise SimulationError(f"{name} is {count}, expected at least 1. HINT: pass --{name} 1 or more.")
    if meant := near(job.instance_type):
        raise SimulationError(
            f"instance-type is {job.instance_type!r}, expected ml.FAMILY.SIZE. HINT: {', '.join(meant)}?"
        )


def _check_options(job: Simulation) -> None:
    if job.mpi_options and not job.uses_mpirun:
        with_mpirun = [name for name in DISTRIBUTIONS[job.sdk] if name in MPIRUN_DISTRIBUTIONS]
        raise SimulationError(
            f"mpi options are {list(job.mpi_options)}, but distribution {job.distribution!r} starts no mpirun. "
            f"HINT: drop --mpi-option, or choose one of: {', '.join(with_mpirun)}.",
        )
    if not 0 <= job.grace < math.inf:
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
    if not job.path.is_file():
        raise SimulationError(
            f"script is {str(job.script)!r}, which is not a file. HINT: paths are relative to {str(Path.cwd())!r}.",
        )
    if Path(job.path.resolve()).suffix != ".py":
        raise SimulationError(
            f"script is {job.path.name!r}, expected a .py file. HINT: every launcher of SageMaker but the plain one "
            "starts Python scripts only.",
        )
    if not job.path.resolve().is_relative_to(job.folder):
        leads = f", a link to {str(job.path.resolve())!r}," if job.path.is_symlink() else ","
        raise SimulationError(
            f"script is {str(job.script)!r}{leads} which is not in the source folder {str(job.folder)!r}. HINT:"
            " --source-dir names a folder that holds the script."
        )
    if job.source_dir is None and holds_more(job.folder):
        raise SimulationError(
            f"script is in {str(job.folder)!r}, all of which would be the source folder. HINT: move the script to a"
            " folder of its own, or say so with --source-dir."
        )
    if job.sdk == "v2" and not all(map(_ENTRY_POINT.fullmatch, job.entry.split("/"))):
        raise SimulationError(
            f"script is {job.entry!r}; SageMaker's toolkit refuses an entry point with other characters than "
            "letters, digits and . _ + -, or with a leading - or +. HINT: rename the script.",
        )


def _check_files(job: Simulation) -> None:
    work_dir = None if job.work_dir is None else Path(job.work_dir)
    if work_dir is not None and work_dir.exists():
        if not work_dir.is_dir():
            raise SimulationError(f"work-dir is {str(job.work_dir)!r}, which is not a folder. HINT: name a new folder.")
        if any(work_dir.iterdir()):
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
        if job.sdk == "v3" and name in V3_CHANNELS:
            raise SimulationError(
                f"channel is named {name!r}, as one of SDK v3's own ({', '.join(V3_CHANNELS)}). HINT: another name."
            )
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
    if job.interrupt_after is None:
        if job.restart:
            raise SimulationError(
                "restart is asked for, but nothing interrupts the job. HINT: --interrupt-after SECONDS --restart."
            )
    elif not 0 < job.interrupt_after < math.inf:
        raise SimulationError(
            f"interrupt-after is {job.interrupt_after}, expected more than 0 seconds. HINT: a time at which the script"
            " has written a checkpoint: --interrupt-after 30."
        )
    if job.checkpoints is not None and Path(job.checkpoints).exists() and not Path(job.checkpoints).is_dir():
        raise SimulationError(
            f"checkpoints is {str(job.checkpoints)!r}, which is not a folder. HINT: name a folder, or a new one."
        )
