"""A key-value store for the processes of one host, in a file: it needs no connection to another host."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from torch.distributed import FileStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed.store import Store, write_first
from lightning_sagemaker.locking.directory import lock_directory

if TYPE_CHECKING:
    from pathlib import Path


def host_store(store: Store, number: int) -> HostStore:
    """Open the store of this host's processes. None of them waits for another one.

    At the given store, which is asked once, all processes of the job agree on a word that no other store of a host has.
    An OSError or RuntimeError where the host has no safe folder (``lock_directory``).
    """
    word = write_first(store, "word", secrets.token_hex())
    name = hashlib.sha256(f"{word} {number}".encode()).hexdigest()[:16]  # whatever a stranger has set it to
    return HostStore(lock_directory() / f"store-{name}")


class HostStore(Store):
    """A store in a file that exists once something has been set: until then, reading costs one system call."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file: FileStore | None = None

    def set(self, key: str, value: str) -> None:
        """Set a key."""
        self._open().set(key, value)

    def add(self, key: str, amount: int) -> int:
        """Increase a counter, and return its new value."""
        return self._open().add(key, amount)

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """Set a key if it has the expected value, or if it has none and none is expected; its value afterwards."""
        if expected == desired and self._file is None and not self._path.exists():
            return expected.encode()
        return self._open().compare_set(key, expected, desired)

    def remove(self) -> None:
        """Remove the file once no process needs it."""
        self._path.unlink(missing_ok=True)

    def _open(self) -> FileStore:
        if self._file is None:
            self._file = FileStore(str(self._path))
        return self._file
