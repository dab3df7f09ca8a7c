"""The key-value store that made the process group: a place where ranks meet without a collective.

Threads of ours use a connection of their own: the group's own one is held by whoever waits on it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined] # missing in torch's own list

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

__all__ = ["PrefixStore", "Store", "TCPStore", "default_store", "own_connection", "prefixed", "wait_for"]

_PREFIX = "lightning_sagemaker"
_SHORTEST, _LONGEST = 0.005, 0.25  # seconds between two looks: the first soon, then rarely


def default_store() -> Store:
    """Store of the default process group, with a prefix of ours.

    Raises:
        ValueError: There is no process group.
    """
    return prefixed(dist.distributed_c10d._get_default_store())  # noqa: SLF001 - torch has no public name for it


def prefixed(store: Store) -> Store:
    """The store with a prefix of ours; under torchrun, one per attempt, since the agents' store outlives an attempt."""
    return PrefixStore(f"{_PREFIX}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def own_connection(timeout: timedelta) -> Store | None:
    """A second connection to the default group's store; ``None`` where that store is no TCP server.

    Args:
        timeout: How long each operation may wait.

    Raises:
        RuntimeError: The server does not answer.
        ValueError: There is no process group.
    """
    store = dist.distributed_c10d._get_default_store()  # noqa: SLF001
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    if not isinstance(store, TCPStore):
        return None
    return prefixed(TCPStore(store.host, store.port, is_master=False, wait_for_workers=False, timeout=timeout))


def wait_for(store: Store, key: str, each: Callable[[], None] = lambda: None) -> bytes:
    """Wait for a key, as long as it takes, and return its value.

    ``Store.wait`` would end at a time limit, with a line of torch's own in the log each time.

    Args:
        store: Where the key will be.
        key: Its name.
        each: Called between two looks; what it raises ends the wait.
    """
    pause = _SHORTEST
    while not store.check([key]):
        each()
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
    return store.get(key)
