"""Where a process stands in the world of the probing job, also where the job cannot be read."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.job import SageMakerJob
from lightning_sagemaker.probe.guarded import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Place:
    """One process of the job.

    Attributes:
        rank: Global rank. Without a launcher there is one process on each host, and its rank is the host's.
        world_size: Number of processes.
        local_rank: Index on its host.
        host: Name of its host.
        address: Host of rank 0.
        port: Port of the rendezvous there.
        launcher: What started it.
        job: The job as this package reads it.
        problem: Why it could not be read.
    """

    rank: int
    world_size: int
    local_rank: int
    host: str
    address: str
    port: int
    launcher: str
    job: SageMakerJob | None
    problem: str | None = None


def find_place(environ: Mapping[str, str]) -> Place:
    """The place of this process: as this package reads it, else from the launcher's variables.

    Args:
        environ: Its environment.
    """
    job, problem = None, None
    try:
        job = SageMakerJob.detect(environ)
    except (ValueError, OSError) as error:
        problem = first_line(error)
    if job is not None:
        alone = job.rank is None
        return Place(
            rank=job.node_rank if job.rank is None else job.rank,
            world_size=job.num_nodes if job.world_size is None else job.world_size,
            local_rank=0 if alone else job.local_rank,
            host=job.current_host,
            address=job.main_address,
            port=job.main_port,
            launcher=job.launcher,
            job=job,
        )

    def number(*names: str, default: int) -> int:
        return next((int(environ[name]) for name in names if environ.get(name, "").isdecimal()), default)

    return Place(
        rank=number("RANK", "OMPI_COMM_WORLD_RANK", default=0),
        world_size=number("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", default=1),
        local_rank=number("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", default=0),
        host=environ.get("CURRENT_HOST") or socket.gethostname(),
        address=environ.get("MASTER_ADDR", "127.0.0.1"),
        port=number("MASTER_PORT", default=7777),
        launcher="unknown",
        job=None,
        problem=problem or "no SageMaker job was found",
    )
