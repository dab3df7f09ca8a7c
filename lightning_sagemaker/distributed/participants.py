"""The participants of an agreement over one store: the ranks of a host, or the first ranks of all hosts."""

from __future__ import annotations

import functools
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.distributed import FileStore, HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed import background
from lightning_sagemaker.distributed.store import PrefixStore, Store, default_store, own_connection, write_first
from lightning_sagemaker.locking.directory import lock_directory

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from lightning_sagemaker.job import SageMakerJob


@dataclass(frozen=True)
class Participants:
    """The participants of an agreement, with their store."""

    store: Store
    number: int  # of this one among them, from 0; that one decides
    ranks: range


def ranks_of_host(job: SageMakerJob, prefix: str, lost: str, timeout: timedelta) -> Participants:
    """The ranks of this host, at a store in a file, else at the process group's; a rank without either is alone."""
    size, rank, local_rank = (job.world_size or 1) // job.num_nodes, job.rank or 0, job.local_rank
    alone = Participants(HashStore(), 0, range(rank, rank + 1))
    if size <= 1:
        return alone
    store: Store
    try:
        store = host_store(PrefixStore(prefix, default_store()), job.node_rank)
    except (OSError, RuntimeError):
        # Not alone: each rank would stop at a step of its own, and wait there for the others.
        if (connection := _connection(lost, timeout)) is None:
            return alone
        store = PrefixStore(f"{prefix}/{job.node_rank}", connection)
    return Participants(store, local_rank, range(rank - local_rank, rank - local_rank + size))


def first_ranks(job: SageMakerJob, prefix: str, lost: str, timeout: timedelta) -> Participants:
    """The first ranks of all hosts, with a connection of their own to rank 0's store; without one, this rank alone."""
    # Alone, and not without an agreement: then Lightning would broadcast before each batch, and the others would not.
    store, world_size = _connection(lost, timeout) or HashStore(), job.world_size or 1
    step = max(1, world_size // job.num_nodes)
    return Participants(PrefixStore(prefix, store), job.node_rank, range(0, step * job.num_nodes, step))


def _connection(lost: str, timeout: timedelta) -> Store | None:
    try:
        return own_connection(timeout, only_if_there=True)
    except (OSError, ValueError):  # a short training has ended before this, and the store or the group with it
        return None
    except RuntimeError as error:  # no second connection: the training needs none
        background.warn_lost(lost, error)
        return None


def host_store(store: Store, number: int) -> HostStore:
    """Open the store of this host's processes; an OSError or RuntimeError where it has no safe folder for that."""
    # The processes of the job agree on a word that no other store of a host has; none waits for another one.
    word = write_first(store, "word", secrets.token_hex())
    name = hashlib.sha256(f"{word} {number}".encode()).hexdigest()[:16]  # whatever a stranger has set it to
    return HostStore(lock_directory() / f"store-{name}")


class HostStore(Store):
    """A store in a file that exists once something has been set: until then, reading costs one system call."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @functools.cached_property
    def _file(self) -> FileStore:
        return FileStore(str(self.path))

    def set(self, key: str, value: str) -> None:
        """Set a key."""
        self._file.set(key, value)

    def add(self, key: str, amount: int) -> int:
        """Increase a counter, and return its new value."""
        return self._file.add(key, amount)

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """Set a key if it has the expected value, or if it has none and none is expected; its value afterwards."""
        if expected == desired and "_file" not in vars(self) and not self.path.exists():
            return expected.encode()
        return self._file.compare_set(key, expected, desired)
