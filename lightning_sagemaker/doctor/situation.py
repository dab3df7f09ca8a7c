"""The facts about one process from which the doctor draws its conclusions: its job, its machine, its settings."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.changes import disabled
from lightning_sagemaker.environment import RANK_PROCESS
from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.job.channels import sharded_channels
from lightning_sagemaker.job.resources import Resources, read_resources
from lightning_sagemaker.locking.directory import base_folder
from lightning_sagemaker.settings import AUTOLOAD, DISABLE, LOCK_DIR, PREFIX, SETTINGS, check, switch
from lightning_sagemaker.smddp.availability import launcher_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lightning_sagemaker.doctor.machine import Machine
    from lightning_sagemaker.findings import Level

# Set by us for processes of ours, and by whom, in words.
OF_COMMANDS = {
    f"{PREFIX}FAKE_SMDDP_": "of the simulation's fake SMDDP",
    f"{PREFIX}SIMULATION": "of `simulate`, by which it knows its processes",
    RANK_PROCESS: "of a process that trains, for those that it starts",
}
_READERS: dict[str, Callable[[Mapping[str, str]], object]] = {DISABLE: disabled, LOCK_DIR: base_folder}
LEVELS: dict[str, Level] = {AUTOLOAD: "warn", DISABLE: "warn"}  # what they would switch off stays on
_LOOPBACKS = ("lo", "lo0")  # of Linux and macOS


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

    def number(self, name: str) -> int | None:
        """Value of an unchecked variable; ``None`` if it is not a plain number."""
        text = self.environ.get(name, "")
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else None

    @property
    def strategy(self) -> str:
        """Strategy that the environment asks the Trainer for; ``"auto"`` if it asks for none."""
        return self.environ.get("PL_TRAINER_STRATEGY") or "auto"

    @property
    def smddp_obstacle(self) -> str | None:
        """Why an SMDDP strategy would not use SMDDP in this process; ``None`` if it would."""
        return self.machine.smddp_problem or launcher_problem(self.job)

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
