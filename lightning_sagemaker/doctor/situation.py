"""The facts about one process from which the doctor draws its conclusions."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.job.channels import sharded_channels
from lightning_sagemaker.job.resources import Resources, read_resources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_sagemaker.doctor.machine import Machine

_LOOPBACKS = ("lo", "lo0")  # of Linux and macOS


@dataclass(frozen=True)
class Situation:
    """Variables, machine and job of a process.

    Attributes:
        environ: Its variables.
        machine: What was probed.
        job: Its job; ``None`` outside training jobs, and where it cannot be read.
        problem: Why the job cannot be read.
        resources: What is known of the job's hosts, also where the rest cannot be read.
        sharded: Channels of which each host gets its own part.
        channel_problem: Why the channels cannot be read.
    """

    environ: Mapping[str, str]
    machine: Machine
    job: SageMakerJob | None
    problem: str | None
    resources: Resources | None
    sharded: tuple[str, ...] = ()
    channel_problem: str | None = None

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
        if self.machine.smddp_problem:
            return self.machine.smddp_problem
        if self.job is None:
            return "this process is in no SageMaker training job"
        if self.job.launcher not in ("mpirun", "torchrun"):
            return "SMDDP works under mpirun and torchrun only, and this job was started by neither"
        return None

    @property
    def simulated(self) -> bool:
        """Whether all hosts of the job are this machine."""
        return self.job is not None and self.job.network_interface in _LOOPBACKS

    @property
    def over_network(self) -> bool:
        """Whether several machines train together."""
        return self.job is not None and self.job.num_nodes > 1 and not self.simulated
