"""The run, job and host of this process, and its name in other processes' messages."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker import processes
from lightning_sagemaker.job import base_dir, host_name, is_training_job, job_name, lightning_local_rank, own_job
from lightning_sagemaker.job.launchers import read_world
from lightning_sagemaker.settings import RUN_ID

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = 40


@dataclass(frozen=True)
class Process:
    """A process at one moment, as it is named in other processes' messages."""

    pid: int
    start: str | None  # tells it from a later one with the same id
    host: str  # in the job; outside a job of the machine
    rank: int | None  # where it has one already
    local_rank: int | None  # the same
    at: float  # the moment, by `processes.clock`

    @classmethod
    def me(cls) -> Process:
        """This process, now."""
        job = place = local_rank = None
        with suppress(OSError, ValueError):  # which stops a training, if anything does: here they only are names
            job = own_job()
        with suppress(ValueError):
            place = job or read_world(os.environ, 1)
            local_rank = lightning_local_rank(os.environ)
        if place is not None and not (job is not None and job.launcher == "none"):
            local_rank = place.local_rank
        pid, host = os.getpid(), host_name(os.environ) or platform.node()
        rank = None if place is None else place.rank
        return cls(pid, processes.start_of(pid), host, rank, local_rank, processes.clock())

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """The process that a file describes; ``None`` if the file is missing or damaged."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_bytes()))
        return None

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.start is not None and not processes.has_ended(self.pid, self.start)

    @property
    def is_me(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid() and self.start == processes.start_of(self.pid)

    @property
    def hold(self) -> str:
        """Its name, and for how long it has held a lock."""
        return f"{self}, which took it {max(0.0, processes.clock() - self.at):.0f} s ago"

    def __str__(self) -> str:
        facts = (("rank", self.rank), ("local rank", self.local_rank), ("pid", self.pid))
        return ", ".join(f"{name} {value}" for name, value in facts if value is not None) + f" on {self.host}"


def file_stem(label: str, told: str | None = None, shown: int = _SHOWN) -> str:
    """A file name for any string, ``told`` if it is not the label: readable, and different for different strings."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)[:shown].lstrip(".-")
    digest = hashlib.sha256((label if told is None else told).encode(errors="surrogatepass")).hexdigest()
    return f"{readable}-{digest[:16]}"


def run_stem() -> str:
    """File name that the processes of one run on one host share, and no others."""
    chosen = os.environ.get(RUN_ID, "")
    if is_training_job(os.environ):
        base = os.path.realpath(base_dir(os.environ))  # simulated hosts share one machine
        name, host = job_name(os.environ) or "job", host_name(os.environ) or ""
        parts, label = ["job", name, host, base, chosen], f"{name[:_SHOWN]}-{host}"
    elif chosen:
        parts, label = ["run", chosen, platform.node()], chosen
    else:
        pid, start = processes.run_leader()
        parts, label = ["process", str(pid), start, platform.node()], f"process-{pid}"
    return file_stem(label, "\0".join([*parts, processes.container()]), 2 * _SHOWN)
