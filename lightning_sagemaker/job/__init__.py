"""The SageMaker training job as one process sees it: launcher, hosts, ranks, addresses.

This package is the only reader of ``SM_*``, ``OMPI_*``, ``SMDATAPARALLEL_*``, torchrun's variables and
``/opt/ml/input/config``. It is pure: it takes the environment and the folder as arguments, changes neither, and imports
neither torch nor Lightning nor anything else of this project.

Three rules, each of which has cost somebody a job:

* Hosts are never sorted. The leader is often not ``algo-1``, and ``algo-10`` stands before ``algo-2`` in SageMaker's
  own lists; a numeric order would contradict the launcher's.
* Under mpirun, per-host ``SM_*`` values are not believed: ``mpirun -x`` sends the leader's to every host
  (aws/sagemaker-training-toolkit#158), and values that travel through ``/etc/environment`` are cut at ``#``. The
  files in the config folder are each host's own and come first.
* The collective backend is never inferred from a launcher's flag: ``pytorchddp`` and ``smdistributed`` jobs look the
  same from inside.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from lightning_sagemaker.job.launchers import FOREIGN_RANK, Launcher, lightning_local_rank, read_world
from lightning_sagemaker.job.placement import Place, find_place
from lightning_sagemaker.job.resources import RESOURCE_CONFIG, base_dir, read_resources
from lightning_sagemaker.job.values import integer, some

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "FOREIGN_RANK",
    "Launcher",
    "SageMakerJob",
    "agents_share_hosts",
    "base_dir",
    "host_name",
    "in_training_job",
    "is_training_job",
    "job_name",
    "lightning_local_rank",
    "own_job",
]

# The platform sets the first two (local mode only the second), the toolkit and SDK v3 the third. An image with its own
# entry point has no SM_ variable at all; notebooks, Studio, processing, inference and HyperPod have none of the three.
_MARKS = ("TRAINING_JOB_ARN", "TRAINING_JOB_NAME", "SM_TRAINING_ENV")
_V3_MARKS = ("SM_HOST_COUNT", "SM_CURRENT_HOST_RANK", "SM_MASTER_ADDR")
_MAIN_PORT = 7777  # of the toolkit (MASTER_PORT) and of SDK v3 (SM_MASTER_PORT)
_OWN_PORTS = range(10_000, 29_400)  # below torchrun's default, `fabric run`'s, and those that Linux gives out


@dataclass(frozen=True, repr=False)
class SageMakerJob(Place):
    """The part of a SageMaker training job that one process belongs to.

    Attributes:
        name: Training job name, ``None`` where nothing tells it.
        sdk: What prepared the container: ``"v2"`` (the sagemaker-training toolkit), ``"v3"`` (SDK v3's container
            drivers) or ``None`` (the image's own entry point).
        launcher: What started this process: ``"torchrun"``, ``"mpirun"``, ``"custom"`` (something else that set
            ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE``) or ``"none"`` (SageMaker, one process on this host).
        hosts: Names of all hosts of the job, in SageMaker's order.
        world_hosts: Names of the hosts that form one world with this process. Without a launcher, in the order of node
            ranks; with one the order is informative, ranks come from the launcher.
        current_host: Name of this host.
        instance_type: Instance type of this host, for example ``ml.p4d.24xlarge``.
        instance_group: Name of this host's instance group.
        network_interface: Name of the interface by which the hosts reach each other.
        num_nodes: Number of hosts in the world.
        node_rank: Index of this host in the world, from 0.
        local_world_size: Processes per host in the world. In a process that has to start its siblings itself: the
            number of GPUs that the job says this host has, ``None`` where it has none or says nothing.
        local_rank: Index of this process on its host, from 0.
        rank: Global rank; ``None`` in a process that still has to start its siblings.
        world_size: Processes in the world; ``None`` where ``rank`` is.
        main_address: Name or address of the host of rank 0.
        main_port: Port of the rendezvous on that host.
    """

    name: str | None
    sdk: Literal["v2", "v3"] | None
    hosts: tuple[str, ...]
    current_host: str
    instance_type: str | None
    instance_group: str | None
    network_interface: str | None
    main_port: int

    @classmethod
    def detect(
        cls, environ: Mapping[str, str] | None = None, config_dir: str | Path | None = None
    ) -> SageMakerJob | None:
        """Read the job that this process belongs to; ``None`` outside SageMaker training jobs.

        A training job is where one of ``TRAINING_JOB_ARN``, ``TRAINING_JOB_NAME``, ``SM_TRAINING_ENV`` is set *and*
        ``resourceconfig.json`` lies in the config folder (or ``SM_RESOURCE_CONFIG`` holds its content).

        Args:
            environ: Environment to read, the process's own by default. It is not changed.
            config_dir: Folder of ``resourceconfig.json``; by default ``input/config`` under ``SAGEMAKER_BASE_DIR``,
                which is ``/opt/ml`` unless set.

        Raises:
            FileNotFoundError: This is certainly a training job (``TRAINING_JOB_ARN``), but nothing tells its hosts.
            ValueError: A variable or file is malformed, values contradict each other, or the launcher's world does not
                span the job's hosts. The message names variable or file, value and fix.
        """
        environ = os.environ if environ is None else environ
        if not in_training_job(environ):
            return None
        resources = read_resources(environ, config_dir)
        if resources is None:
            return None
        sdk = _sdk(environ)
        place = find_place(environ, resources, sdk)
        return cls(
            name=job_name(environ),
            sdk=sdk,
            main_port=_main_port(environ, place),
            hosts=resources.hosts,
            current_host=resources.current_host,
            instance_type=resources.instance_type,
            instance_group=resources.instance_group,
            network_interface=resources.network_interface,
            **vars(place),
        )

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is, or will be, rank 0 of its world."""
        return self.node_rank == 0 and self.local_rank == 0

    def __repr__(self) -> str:
        return (
            f"SageMakerJob(name={self.name}, launcher={self.launcher}, host={self.current_host} of"
            f" [{some(self.world_hosts)}], node_rank={self.node_rank}({self.num_nodes}),"
            f" local_rank={self.local_rank}({self.local_world_size}), rank={self.rank}({self.world_size}),"
            f" main={self.main_address}:{self.main_port})"
        )


def in_training_job(environ: Mapping[str, str]) -> bool:
    """Whether the environment has a training job's variables: a cheap check, necessary but not sufficient."""
    return any(environ.get(name) for name in _MARKS)


def is_training_job(environ: Mapping[str, str]) -> bool:
    """Whether a process is in a SageMaker training job: one of its variables is set, and its hosts are known.

    What :meth:`SageMakerJob.detect` goes by, without reading it; for those who change nothing elsewhere. A mark alone
    is none: processing containers, workstations and notebooks may have one left over.
    """
    if not in_training_job(environ):
        return False
    # Path.is_file raises where a folder may not be entered.
    return bool(environ.get("SM_RESOURCE_CONFIG")) or os.path.isfile(base_dir(environ) / RESOURCE_CONFIG)  # noqa: PTH113


def job_name(environ: Mapping[str, str]) -> str | None:
    """Name of the training job; ``None`` if it is unknown."""
    return environ.get("TRAINING_JOB_NAME") or environ.get("SAGEMAKER_JOB_NAME") or None


def host_name(environ: Mapping[str, str]) -> str | None:
    """Name of this host in its training job; ``None`` outside a job, and if it is unknown.

    It is known, and asked for, also where a launcher's world is none of the job's: each host may train apart.
    """
    if not in_training_job(environ):
        return None
    with suppress(OSError, ValueError):
        resources = read_resources(environ, None)
        return resources.current_host if resources else None
    return None


def agents_share_hosts(environ: Mapping[str, str]) -> bool:
    """Whether torchrun has more agents than the job has hosts, so that some host has several: a world that has formed.

    Agents meet before they start any process. It is no world of the job's hosts, and :meth:`SageMakerJob.detect`
    refuses it.
    """
    with suppress(OSError, ValueError):
        if resources := read_resources(environ, None):
            hosts = len(resources.hosts)
            world = read_world(environ, hosts)
            return world is not None and world.launcher == "torchrun" and world.num_nodes > hosts
    return False


def own_job() -> SageMakerJob | None:
    """The job of this process, for features that also work outside jobs; ``None`` too if its hosts are unknown."""
    return SageMakerJob.detect() if is_training_job(os.environ) else None


def _sdk(environ: Mapping[str, str]) -> Literal["v2", "v3"] | None:
    if any(name in environ for name in _V3_MARKS):
        return "v3"
    return "v2" if "SM_HOSTS" in environ or "SM_TRAINING_ENV" in environ else None


def _main_port(environ: Mapping[str, str], place: Place) -> int:
    namespace = environ.get("PMIX_NAMESPACE")  # of one mpirun, and no other
    if namespace and place.launcher == "mpirun" and place.num_nodes == 1:
        # Stock's ranks agree over MPI on a free port, whatever is set: a script may start several mpiruns at a time.
        return _OWN_PORTS[crc32(namespace.encode(errors="surrogateescape")) % len(_OWN_PORTS)]
    ports = (integer(environ, name, least=1, most=65535) for name in ("MASTER_PORT", "SM_MASTER_PORT"))
    return next((port for port in ports if port is not None), _MAIN_PORT)
