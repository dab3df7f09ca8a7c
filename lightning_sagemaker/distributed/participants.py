"""The participants of an agreement over one store: the ranks of a host, or the first ranks of all hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed import background
from lightning_sagemaker.distributed.host_store import host_store
from lightning_sagemaker.distributed.store import PrefixStore, Store, default_store, own_connection

if TYPE_CHECKING:
    from datetime import timedelta

    from lightning_sagemaker.job import SageMakerJob


@dataclass(frozen=True)
class Participants:
    """The participants of an agreement, with their store."""

    store: Store
    number: int  # of this one among them, from 0; that one decides
    size: int
    first_rank: int = 0  # rank of number 0
    step: int = 1  # ranks from one to the next

    def rank(self, number: int) -> str:
        """Name of a participant, for messages."""
        return f"rank {self.first_rank + number * self.step}"


def ranks_of_host(job: SageMakerJob, prefix: str, lost: str, timeout: timedelta) -> Participants:
    """The ranks of this host, at a store in a file; without a folder for that, at the process group's store.

    The prefix is one that nothing else has there; the sentence is for a rank without either, which is alone then.
    """
    size, local_rank = (job.world_size or 1) // job.num_nodes, job.local_rank
    if size <= 1:
        return Participants(HashStore(), 0, 1, job.rank or 0)
    store: Store
    try:
        store = host_store(PrefixStore(prefix, default_store()), job.node_rank)
    except (OSError, RuntimeError):
        # Not alone: each rank would stop at a step of its own, and wait there for the others.
        if (connection := _connection(lost, timeout)) is None:
            return Participants(HashStore(), 0, 1, job.rank or 0)
        store = PrefixStore(f"{prefix}/{job.node_rank}", connection)
    return Participants(store, local_rank, size, (job.rank or 0) - local_rank)


def first_ranks(job: SageMakerJob, prefix: str, lost: str, timeout: timedelta) -> Participants:
    """The first ranks of all hosts, with a connection of their own to rank 0's store; without one, this rank alone.

    Alone with itself, and not without an agreement: then Lightning would broadcast before each batch, and the others
    would not.
    """
    store = _connection(lost, timeout) or HashStore()
    ranks = (job.world_size or 1) // job.num_nodes
    return Participants(PrefixStore(prefix, store), job.node_rank, job.num_nodes, 0, ranks)


def _connection(lost: str, timeout: timedelta) -> Store | None:
    try:
        return own_connection(timeout, only_if_there=True)
    except (OSError, ValueError):  # a short training has ended before this, and the store or the group with it
        return None
    except RuntimeError as error:  # no second connection: the training needs none
        background.warn_lost(lost, error)
        return None
