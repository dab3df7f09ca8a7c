"""The facts about one process from which the doctor draws its conclusions: its job, its machine, its settings."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lightning_sagemaker.changes import disabled
from lightning_sagemaker.checkpoint.newest import checkpoint_folder, latest_checkpoint
from lightning_sagemaker.environment import RANK_PROCESS
from lightning_sagemaker.job import FOREIGN_RANK, SageMakerJob
from lightning_sagemaker.job.channels import sharded_channels
from lightning_sagemaker.job.resources import Resources, read_resources
from lightning_sagemaker.locking.directory import base_folder
from lightning_sagemaker.settings import DISABLE, LOCK_DIR, PREFIX, SETTINGS, check, switch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Answer = TypeVar("Answer")

TORCH, SMDDP, LIGHTNINGS = "torch", "smddp", ("lightning.pytorch", "pytorch_lightning")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only looked at
_DISTRIBUTIONS = (
    *("lightning-sagemaker", "torch", "lightning", "pytorch-lightning", "sagemaker", "sagemaker-train"),
    *("sagemaker-training", "mpi4py", "smdistributed-dataparallel"),
)
_PATIENCE = 300.0  # seconds for all imports: a cold image reads gigabytes
_LAST_LINES = 3  # of a process that died
# Set by us for processes of ours, and by whom, in words.
OF_COMMANDS = {
    f"{PREFIX}FAKE_SMDDP_": "of the simulation's fake SMDDP",
    f"{PREFIX}SIMULATION": "of `simulate`, by which it knows its processes",
    RANK_PROCESS: "of a process that trains, for those that it starts",
    FOREIGN_RANK: "the same: a RANK that no launcher has set",
}
_READERS: dict[str, Callable[[Mapping[str, str]], object]] = {DISABLE: disabled, LOCK_DIR: base_folder}
_LOOPBACKS = ("lo", "lo0")  # of Linux and macOS


@dataclass(frozen=True)
class Machine:
    """Facts about this machine."""

    versions: Mapping[str, str | None]  # by distribution, None where one is not installed; of Python and the system too
    # What came of torch, Lightning, SMDDP, a Trainer and a Fabric, by `imports.py`: `absent`, or `problem` (why one
    # failed), or facts.
    imports: Mapping[str, Mapping[str, Any]]
    entry_point: bool = True  # whether that of `torch.backends` is installed
    pth: bool = True  # whether `lightning_sagemaker.pth` is
    driver_gpus: tuple[str, ...] | None = None  # names of those that the driver knows; None without nvidia-smi
    efa_devices: tuple[str, ...] = ()  # their names
    shared_memory: int | None = None  # size of /dev/shm in bytes, None where there is none
    interfaces: tuple[str, ...] = ()  # names of those of the network
    checkpoint_folder: str | None = None  # the job's, if any
    newest_checkpoint: str | None = None  # the newest complete one in it, if any
    checkpoint_problem: str | None = None  # why neither is known

    @property
    def gpus(self) -> int | None:
        """Number of GPUs that torch sees; ``None`` if torch cannot be imported."""
        return self.imports.get(TORCH, {}).get("gpus")

    @property
    def smddp_problem(self) -> str | None:
        """Why SMDDP cannot be used on this machine; ``None`` if it can."""
        found = self.imports.get(SMDDP, {})
        return None if found.get("version") else str(found.get("problem") or "the SMDDP library was not examined")


@dataclass(frozen=True)
class Situation:
    """Variables, machine and job of a process."""

    environ: Mapping[str, str]
    machine: Machine
    job: SageMakerJob | None  # None outside training jobs, and where it cannot be read
    problem: str | None  # why the job cannot be read
    resources: Resources | None  # what is known of the job's hosts, also where the rest cannot be read
    sharded: tuple[str, ...] = ()  # channels of which each host gets its own part
    channel_problem: str | None = None  # why the channels cannot be read

    @classmethod
    def of(cls, environ: Mapping[str, str], base: Path, machine: Machine) -> Situation:
        """Read the job, whatever the state of its variables and files."""
        config_dir = base / "input" / "config"
        job, problem, resources, channel_problem = None, None, None, None
        sharded: tuple[str, ...] = ()
        try:
            job = SageMakerJob.detect(environ, config_dir)
        except Exception as error:  # noqa: BLE001 - a broken job is what the doctor is asked about
            problem = f"{type(error).__name__}: {error}"
        if job or problem:
            with suppress(Exception):
                resources = read_resources(environ, config_dir)
            try:
                sharded = sharded_channels(environ, config_dir)
            except ValueError as error:
                channel_problem = str(error)
        return cls(environ, machine, job, problem, resources, sharded, channel_problem)

    @property
    def simulated(self) -> bool:
        """Whether all hosts of the job are this machine."""
        return self.job is not None and self.job.network_interface in _LOOPBACKS

    @property
    def over_network(self) -> bool:
        """Whether several machines train together."""
        return self.job is not None and self.job.num_nodes > 1 and not self.simulated


def problem(name: str, environ: Mapping[str, str]) -> str | None:
    """What is wrong with a setting in an environment; ``None`` if nothing is."""
    try:
        check(name, environ)
        if reader := _READERS.get(name):
            reader(environ)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def is_on(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a switch is on; a malformed value counts as unset, and is a finding of its own."""
    try:
        return switch(name, environ)
    except ValueError:
        return SETTINGS[name].default == "1"


def probe_machine(
    environ: Mapping[str, str], infiniband: Path = Path("/sys/class/infiniband"), shared_memory: Path = SHARED_MEMORY
) -> Machine:
    """Examine this machine, and the checkpoints that these variables name; what cannot be read is left out."""
    try:
        folder = checkpoint_folder(environ)
        newest, problem = None if folder is None else latest_checkpoint(folder), None
    except Exception as error:  # noqa: BLE001 - a damaged file must not end the doctor
        folder, newest, problem = None, None, f"{type(error).__name__}: {error}"
    return Machine(
        versions={
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: _attempt(partial(importlib.metadata.version, name), None) for name in _DISTRIBUTIONS},
        },
        imports=_imports(),
        entry_point=_attempt(_has_entry_point, instead=False),
        # By os.path, which takes a folder that may not be looked at for one without it.
        pth=any(os.path.isfile(os.path.join(entry, "lightning_sagemaker.pth")) for entry in sys.path),  # noqa: PTH113, PTH118
        driver_gpus=_attempt(_driver_gpus, None),
        efa_devices=_attempt(lambda: efa_devices(infiniband), ()),
        shared_memory=_attempt(lambda: shutil.disk_usage(shared_memory).total, None),
        interfaces=_attempt(lambda: tuple(name for _, name in socket.if_nameindex()), ()),
        checkpoint_folder=str(folder) if folder else None,
        newest_checkpoint=str(newest) if newest else None,
        checkpoint_problem=problem,
    )


def efa_devices(folder: Path) -> tuple[str, ...]:
    """EFA devices in a folder like ``/sys/class/infiniband``; those without a known driver count too."""
    if not folder.is_dir():
        return ()
    drivers = {device.name: device / "device" / "driver" for device in folder.iterdir()}
    return tuple(sorted(name for name, driver in drivers.items() if driver.resolve().name in ("efa", "driver")))


def _attempt(look: Callable[[], Answer], instead: Answer) -> Answer:
    try:
        return look()
    except Exception:  # noqa: BLE001 - what cannot be seen is unknown
        return instead


def _has_entry_point() -> bool:
    hooks = importlib.metadata.entry_points(group="torch.backends")
    return any(hook.value.startswith("lightning_sagemaker.") for hook in hooks)


def _driver_gpus() -> tuple[str, ...]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return tuple(subprocess.check_output(command, text=True, timeout=30).splitlines())  # noqa: S603


def _imports() -> dict[str, dict[str, Any]]:
    program = Path(__file__).with_name("imports.py").read_text(encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if name != RANK_PROCESS}  # it answers for a rank
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", program], env=environ, capture_output=True, timeout=_PATIENCE, check=False
        )
        answers, end = done.stdout, _end(done)
    except subprocess.TimeoutExpired as error:
        answers, end = error.stdout or b"", f"it did not end within {_PATIENCE:.0f} s"
    except OSError as error:
        answers, end = b"", str(error)
    found: dict[str, dict[str, Any]] = {}
    for line in answers.splitlines():
        with suppress(ValueError):  # the last line of a process that was killed
            name, answer = json.loads(line)
            found[name] = answer or {"problem": end}
    return found or {TORCH: {"problem": end}}


def _end(done: subprocess.CompletedProcess[bytes]) -> str:
    code = done.returncode
    names = {int(number): number.name for number in signal.Signals}  # of real-time signals only two
    how = names.get(-code, f"signal {-code}") if code < 0 else f"exit code {code}"
    last_words = done.stderr.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
    return f"the process ended ({how}): {' '.join(last_words)}"
