"""Which run of which job on which host this process belongs to, and how it is named to the others."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lightning_sagemaker import processes
from lightning_sagemaker.job import (
    base_dir,
    host_name,
    is_training_job,
    job_name,
    lightning_local_rank,
    own_job,
)
from lightning_sagemaker.job.launchers import read_world

_RUN_ID = "LIGHTNING_SAGEMAKER_RUN_ID"
_SHOWN = 40


@dataclass(frozen=True)
class Who:
    """A process, as it is named in messages of other processes.

    Attributes:
        pid: Its process id.
        host: Name of its host in the job, outside a job of the machine.
        rank: Its global rank, where it has one already.
        local_rank: Its rank on the host, where it has one already.
    """

    pid: int
    host: str
    rank: int | None
    local_rank: int | None

    @classmethod
    def me(cls) -> Who:
        """This process."""
        job = world = local_rank = None
        with suppress(OSError, ValueError):  # which stops a training, if anything does: here they only are names
            job = own_job()
        with suppress(ValueError):
            world = read_world(os.environ, 1) if job is None else None
            local_rank = lightning_local_rank(os.environ)
        if job is not None:
            rank = job.rank
            local_rank = job.local_rank if job.launcher != "none" else local_rank
        else:
            rank = world.rank if world else None
            local_rank = world.local_rank if world else local_rank
        return cls(os.getpid(), host_name(os.environ) or platform.node(), rank, local_rank)

    @classmethod
    def of(cls, record: Any) -> Who | None:  # noqa: ANN401 - JSON is of any type
        """The process that :func:`vars` of a ``Who`` described."""
        with suppress(TypeError):
            return cls(**record)
        return None

    def __str__(self) -> str:
        ranks = (f"{name} {value}, " for name, value in (("rank", self.rank), ("local rank", self.local_rank)))
        known = (value is not None for value in (self.rank, self.local_rank))
        shown = "".join(text for text, is_known in zip(ranks, known, strict=True) if is_known)
        return f"{shown}pid {self.pid} on {self.host}"


def file_stem(name: str) -> str:
    """A file name for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:_SHOWN].lstrip(".-")
    return f"{readable}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"


def run_stem() -> str:
    """File name that is the same for the processes that shall see each other, and for no others.

    In a SageMaker training job: the job's name, the host, its base folder (simulated hosts share one machine) and this
    start of the container; whatever world a launcher has made there. Elsewhere: ``LIGHTNING_SAGEMAKER_RUN_ID``, or the
    process that stands for the run.

    Raises:
        RuntimeError: Outside a job, nothing tells which processes belong to one run.
    """
    chosen = os.environ.get(_RUN_ID, "")
    if is_training_job(os.environ):
        base = os.path.realpath(base_dir(os.environ))
        name, host = job_name(os.environ) or "job", host_name(os.environ) or ""
        parts = ["job", name, host, base, chosen, processes.container()]
        label = f"{name[:_SHOWN]}-{host}"
    elif chosen:
        parts, label = ["run", chosen, platform.node(), processes.container()], chosen
    else:
        pid, start = processes.run_leader()
        parts, label = ["process", str(pid), start, platform.node(), processes.container()], f"process-{pid}"
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)[: 2 * _SHOWN].lstrip(".-")
    return f"{readable}-{digest}"
