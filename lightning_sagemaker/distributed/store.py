"""The key-value store of the process group, over which ranks exchange messages without a collective.

Threads of ours use a connection of their own: the group's own one is held by whoever waits on it.

Store and ports are open to the network, as in stock torch, so what is found there may be anything: a scanner's bytes,
no UTF-8, a number of a thousand digits. Messages are prefixed, bounded in length, and printable; all that is found is
parsed here, and what is not ours counts as not there.
"""

from __future__ import annotations

import json
import os
import socket
import unicodedata
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined] # missing in torch's own list

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

__all__ = ["PrefixStore", "Store", "TCPStore"]  # of torch, for those that have this store

_PREFIX = "lightning_sagemaker"
_ABSENT = "lightning_sagemaker: absent"  # no value of ours
LONGEST = 65536  # bytes of a message
_LONGEST_TEXT = 4096  # characters of one text in it: each is up to 12 bytes
_MARK = b"lightning_sagemaker/1 "
_LARGEST = 2**53  # of a number


def default_store() -> Store:
    """The store of the default process group, under this package's prefix."""
    return prefixed(dist.distributed_c10d._get_default_store())  # noqa: SLF001 - torch has no public name for it


def prefixed(store: Store) -> Store:
    """The store under this package's prefix; under torchrun, one per attempt, since the agents' store outlives it."""
    return PrefixStore(f"{_PREFIX}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def server_of_group() -> TCPStore | None:
    """The default group's own connection to its TCP server; ``None`` if its store has none."""
    store = dist.distributed_c10d._get_default_store()  # noqa: SLF001
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    return store if isinstance(store, TCPStore) else None


def own_connection(timeout: timedelta, *, only_if_there: bool = False) -> Store | None:
    """A second connection to the default group's store; ``None`` if that is no TCP server.

    A RuntimeError where it does not answer; an OSError ``only_if_there`` where the server has ended.
    """
    if (store := server_of_group()) is None:
        return None
    if only_if_there:  # torch would wait for it and write lines
        socket.create_connection((store.host, store.port), timeout.total_seconds()).close()
    return prefixed(TCPStore(store.host, store.port, is_master=False, wait_for_workers=False, timeout=timeout))


def end_of_group() -> Callable[[], bool]:
    """Make a function that tells whether the current default process group has ended or was replaced."""
    group = dist.group.WORLD
    if group is None:  # of which nothing can end
        return lambda: False
    known = weakref.ref(group)  # whoever ends the group does not wait for this
    del group
    return lambda: dist.group.WORLD is None or dist.group.WORLD is not known()


def encode(*values: object) -> str:
    """Write texts, numbers and truth values as a message; texts are cut where they are too long."""
    return _MARK.decode() + json.dumps([_printable(value) if isinstance(value, str) else value for value in values])


def decode(message: bytes, *kinds: type) -> tuple[Any, ...] | None:
    """Read a message of :func:`encode`; ``None`` unless its values are of these types: str, int (from 0) or bool."""
    if len(message) > LONGEST or not message.startswith(_MARK):
        return None
    try:
        values = json.loads(message[len(_MARK) :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        return None
    sound = all(0 <= value <= _LARGEST if isinstance(value, int) else value == _printable(value) for value in values)
    return tuple(values) if sound else None


def _printable(text: str) -> str:
    shown = (char if char in "\n\t" or unicodedata.category(char) != "Cc" else repr(char)[1:-1] for char in text)
    return "".join(shown)[:_LONGEST_TEXT]


def raw_value(store: Store, key: str) -> bytes | None:
    """Value of a key; ``None`` if it has none yet."""
    # Comparing a key that is absent sets nothing. `Store.check` asks the same; torch before 2.3 lacks it in Python.
    value: bytes | str = store.compare_set(key, _ABSENT, _ABSENT)
    found = value.encode() if isinstance(value, str) else value
    return None if found == _ABSENT.encode() else found


def write(store: Store, key: str, *values: object) -> None:
    """Set a key to texts, numbers and truth values, which :func:`read` returns on another rank."""
    store.set(key, encode(*values))


def write_first(store: Store, key: str, text: str) -> str:
    """Set a key to a text unless another rank has set it; the text that it has then."""
    found: bytes | str = store.compare_set(key, "", encode(text))
    values = decode(found.encode() if isinstance(found, str) else found, str)
    if values is None:  # not a rank's
        write(store, key, text)
        return text
    return str(values[0])


def read(store: Store, key: str, *kinds: type) -> tuple[Any, ...] | None:
    """Values of a key that :func:`write` has set, of these types; ``None`` for anything else."""
    found = raw_value(store, key)
    return None if found is None else decode(found, *kinds)


@dataclass
class Arrival:
    """A point at which all processes arrive, or all learn why not."""

    _store: Store
    _expected: int

    def arrive(self) -> int:
        """Count this process, and release all if it is the last one; its number in the order of arrival."""
        number = self._store.add("arrived", 1)
        if number == self._expected:
            write(self._store, "outcome", "")
        return number

    @property
    def arrived(self) -> int:
        """How many processes have arrived."""
        return self._store.add("arrived", 0)

    def fail(self, why: str) -> None:
        """Tell all who wait here, now or later, why they cannot go on; the first reason counts."""
        write_first(self._store, "outcome", why)

    def outcome(self) -> str | None:
        """Empty once all have arrived, or why they cannot; ``None`` while neither is known."""
        found = read(self._store, "outcome", str)
        return None if found is None else str(found[0])
