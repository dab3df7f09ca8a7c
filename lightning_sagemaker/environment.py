"""``SageMakerEnvironment``: the SageMaker training job as a Lightning cluster environment."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from dataclasses import replace
from typing import Any

from lightning_sagemaker.job import FOREIGN_RANK, SageMakerJob, lightning_local_rank

# Set in each process that trains, for those that it starts: its process id, a digest of what a launcher has told it,
# and a word before it is a rank.
RANK_PROCESS = "LIGHTNING_SAGEMAKER_RANK_PROCESS"
_OF_LAUNCHERS = (
    *("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
    *("TORCHELASTIC_RESTART_COUNT", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_NAMESPACE"),
)
_APART = (
    "For a Trainer that runs apart from the job on purpose (say, a test on one device after training), pass"
    " plugins=[LightningEnvironment()]."
)


class SageMakerEnvironment:
    """Cluster environment of SageMaker training jobs, for Trainer and Fabric of both Lightning distributions.

    It is found without being asked for; pass ``plugins=[SageMakerEnvironment()]`` where detection is switched off. Any
    number of ``fit``, ``validate``, ``test`` and ``predict`` calls may follow each other.

    The two distributions have a ``ClusterEnvironment`` base class each and refuse the other's children. This class has
    neither as its base and is registered as a virtual subclass of both.

    Args:
        job: The job to present; by default the one that this process belongs to.

    Raises:
        RuntimeError: This process belongs to no SageMaker training job.
        ValueError: The job's variables or files are malformed or contradict each other, see
            :meth:`SageMakerJob.detect`.
    """

    def __init__(self, job: SageMakerJob | None = None) -> None:
        register_virtual_subclass()
        job = job or SageMakerJob.detect()
        if job is None:
            raise RuntimeError(
                "SageMakerEnvironment was made outside a SageMaker training job: none of TRAINING_JOB_ARN,"
                " TRAINING_JOB_NAME, SM_TRAINING_ENV is set, or resourceconfig.json is missing. HINT: leave it out of"
                " `plugins` - inside a job it is found by itself - or try the script by `lightning-sagemaker simulate`."
            )
        if job.launcher == "none" and (rank := os.environ.get("RANK")):
            os.environ[FOREIGN_RANK] = rank  # for the processes that Lightning starts
        self.job = job
        self._rank = job.rank
        self._world_size = job.world_size
        self._port: int | None = None

    def __repr__(self) -> str:
        return f"SageMakerEnvironment({self.job!r})"

    def current_job(self) -> SageMakerJob:
        """The job, with this process's current place in it.

        What can change after :attr:`job` was read is asked of this object: ranks in spawned and forked processes, and
        where Lightning's launcher starts them.
        """
        world_size = self.world_size()
        return replace(
            self.job,
            local_rank=self.local_rank(),
            rank=self.global_rank(),
            world_size=world_size,
            local_world_size=max(1, world_size // self.job.num_nodes),
            main_port=self.main_port,
        )

    @staticmethod
    def detect() -> bool:
        """Whether this process belongs to a SageMaker training job.

        Raises:
            ValueError: It does, but the job's variables or files are malformed or contradict each other.
        """
        return SageMakerJob.detect() is not None

    @property
    def creates_processes_externally(self) -> bool:
        """Whether all processes of this host are started already.

        Where SageMaker started one process per host, Lightning's launcher starts the others, and its mark
        (``LOCAL_RANK``, afterwards also in the parent) is what Lightning itself goes by.
        """
        return self.job.launcher != "none" or lightning_local_rank(os.environ) is not None

    @property
    def main_address(self) -> str:
        """Name or address of the host of rank 0."""
        return self.job.main_address

    @property
    def main_port(self) -> int:
        """Port of the rendezvous on the host of rank 0.

        Without a launcher, a single host takes a free one where nobody has set MASTER_PORT, as stock does: several
        trainings may run on it side by side. Lightning's launchers ask for it before they start processes.
        """
        if self.job.launcher != "none" or self.job.num_nodes > 1:
            return self.job.main_port
        if self._port is None:
            self._port = int(os.environ.get("MASTER_PORT") or _free_port())
        return self._port

    def num_nodes(self) -> int:
        """Number of hosts that train together."""
        return self.job.num_nodes

    def node_rank(self) -> int:
        """Index of this host among those that train together."""
        return self.job.node_rank

    def local_rank(self) -> int:
        """Index of this process on its host."""
        if self.job.launcher == "none":  # set late, and in spawned processes after this object was made
            return lightning_local_rank(os.environ) or 0
        return self.job.local_rank

    def world_size(self) -> int:
        """Number of processes that train together; 1 until Lightning has set how many it will start."""
        return self._world_size or 1

    def global_rank(self) -> int:
        """Index of this process among all that train together."""
        return self._rank or 0

    def set_world_size(self, size: int) -> None:
        """Accept the world size that Lightning derived, if it is the job's.

        Raises:
            ValueError: It is not, so some ranks would wait for others that do not exist.
        """
        job = self.job
        known = job.world_size
        if job.launcher == "none":  # WORLD_SIZE may be the script's; the processes that train already are what is known
            known = group.get_world_size() if (group := process_group()) and group.get_world_size() > 1 else None
        if size != known and (known is not None or size % job.num_nodes):
            raise ValueError(
                f"Lightning would train with {size} process(es) (`num_nodes` x `devices`), but the SageMaker job has"
                f" {known or f'a multiple of {job.num_nodes}'}: {job!r}. HINT: remove `num_nodes` and"
                f" `devices` from Trainer or Fabric: both come from the job. {_APART}"
            )
        self._world_size = size

    def set_global_rank(self, rank: int) -> None:
        """Accept the rank that Lightning derived if no launcher set one; otherwise keep the launcher's."""
        if self.job.launcher == "none":
            self._rank = rank

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Check the user's settings against the job.

        Args:
            num_devices: Devices (processes) per host.
            num_nodes: Number of hosts.

        Raises:
            ValueError: They contradict what SageMaker or its launcher started; the message names both.
        """
        job = self.job
        if num_nodes != job.num_nodes:
            raise ValueError(
                f"You set `num_nodes={num_nodes}`, but {job.num_nodes} host(s) of the SageMaker job train together:"
                f" {job!r}. HINT: remove `num_nodes`: it comes from the job; or change the job's instance count."
            )
        if job.launcher != "none" and num_devices != job.local_world_size:
            raise ValueError(
                f"You set `devices` to {num_devices} device(s), but {job.launcher} started {job.local_world_size}"
                f" process(es) on each host: {job!r}. HINT: remove `devices`: it comes from the job; or change the"
                f" number of processes per host in the job's distribution. {_APART}"
            )

    def teardown(self) -> None:
        """Remove ``WORLD_SIZE`` if Lightning's launcher has set it, as Lightning's environment does; keep all else."""
        if self.job.launcher == "none":
            os.environ.pop("WORLD_SIZE", None)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def process_group() -> Any:
    """The module ``torch.distributed`` while there is a default process group, else ``None``."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def mark_rank() -> None:
    """Mark processes that this rank starts as no ranks: they inherit its variables."""
    os.environ[RANK_PROCESS] = f"{os.getpid()} {_launch()}"


def mark_script() -> None:
    """Mark processes that this one starts as helpers, while it is no rank and none itself."""
    if not is_descendant_of_rank() and not is_helper():
        os.environ[RANK_PROCESS] = f"{os.getpid()} {_launch()} script"


def is_helper() -> bool:
    """Whether a process that trains started this one (a child that evaluates, a pool) without a launcher.

    torchrun, mpirun and Lightning's launcher set variables of their own.
    """
    pid, launch, *_ = *os.environ.get(RANK_PROCESS, "").split(), "", ""
    return pid not in ("", str(os.getpid())) and launch == _launch()


def is_started_by_rank() -> bool:
    """Whether a rank started this process without a launcher."""
    return is_descendant_of_rank() and is_helper()


def is_launched() -> bool:
    """Whether a launcher started this process, Lightning's own included, by the variables that are there."""
    return any(os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_SIZE"))


def is_descendant_of_rank() -> bool:
    """Whether a rank started this process, directly or through a launcher."""
    pid, _, rest = os.environ.get(RANK_PROCESS, "").partition(" ")
    return pid not in ("", str(os.getpid())) and " " not in rest


def _launch() -> str:
    """A summary of the variables that a launcher has set for this process."""
    told = "\0".join(os.environ.get(name, "") for name in _OF_LAUNCHERS)
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:16]


def register_virtual_subclass() -> None:
    """Make :class:`SageMakerEnvironment` a ``ClusterEnvironment`` of each distribution that is imported by now."""
    for name in ("lightning.fabric", "lightning_fabric"):
        module = sys.modules.get(f"{name}.plugins.environments.cluster_environment")
        if module is not None:
            module.ClusterEnvironment.register(SageMakerEnvironment)
