"""A lock by name, on filelock's ``FileLock``: who may take it, who holds it, and what a fork leaves of it.

The kernel frees the lock when its holder ends, however it ends. Nothing is decided by the record of who holds it, but
that a forked child must not wait for its own parent.
"""

from __future__ import annotations

import inspect
import os
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import filelock

from lightning_sagemaker import processes
from lightning_sagemaker.locking.bell import Bell
from lightning_sagemaker.locking.directory import ELSEWHERE, lock_directory
from lightning_sagemaker.locking.holder import Holder
from lightning_sagemaker.locking.identity import file_stem

if TYPE_CHECKING:
    from pathlib import Path

_UNSAFE = f"which two processes can hold at once. {ELSEWHERE}"


@dataclass(frozen=True)
class _Hold:
    token: str
    thread: int


class Lock:
    """A lock of this run, by name; the same name is the same lock in all processes of the host.

    Args:
        name: Its name.
        caller: What to call it in messages.

    Raises:
        OSError: See :func:`lock_directory`.
        ValueError: The name is empty, or see :func:`lock_directory`.
        TypeError: The name is no string.
    """

    def __init__(self, name: str, caller: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{caller} got {name!r}; expected a string. HINT: any text that names what is guarded.")
        if not name:
            raise ValueError(
                f"{caller} got an empty string; expected a name. HINT: any text that names what is guarded."
            )
        self.label = f"{caller}({name!r})"
        self.stem = lock_directory() / file_stem(f"{caller} {name}")
        self._path = self.beside(".lock")
        self._lock = _file_lock(self._path)
        self._holder_path = self.beside(".holder")
        self._bell: Bell | None = None
        self._pid = os.getpid()
        self.left_by: Holder | None = None

    def beside(self, suffix: str) -> Path:
        """Path of another file of this lock."""
        return self.stem.with_name(self.stem.name + suffix)

    def refuse_reentry(self) -> None:
        """Raise where waiting would never end.

        Raises:
            RuntimeError: This thread holds the lock already.
        """
        hold = _held.get(self._path)
        if hold is not None and hold.thread == threading.get_ident():
            raise RuntimeError(
                f"{self.label} is entered again by the thread that holds it, which would wait for itself. HINT: take"
                " the lock once, around both, or use two names."
            )

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it.

        Raises:
            OSError: The file system cannot lock, or not make the file.
            RuntimeError: A parent of this process, which was forked while the parent held the lock, holds it still.
        """
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            self._refuse_inherited()
            return False
        except NotImplementedError as error:
            raise OSError(f"The file system of {self._path} has no locks ({error}). {_UNSAFE}") from error
        except OSError as error:
            raise OSError(
                error.errno, f"{self._path} cannot be locked for {self.label}: {error.strerror}. {ELSEWHERE}"
            ) from error
        if isinstance(self._lock, filelock.SoftFileLock):
            self._lock.release()
            raise OSError(f"On the file system of {self._path} filelock fell back to a lock {_UNSAFE}")
        token = uuid.uuid4().hex
        try:
            self._pid = os.getpid()
            _held[self._path] = _Hold(token, threading.get_ident())
            _guarded.add(self)
            self.left_by = Holder.read(self._holder_path)
            self._bell = Bell(self.beside(".bell"))
            Holder.write(self._holder_path, token)
        except BaseException:  # a signal's, say
            self.release()
            raise
        return True

    def ring(self) -> None:
        """Wake all waiters, before or with the release."""
        if self._bell is not None:
            self._bell.ring()

    @property
    def is_mine(self) -> bool:
        """Whether this process took the lock: ``False`` in a child that was forked since."""
        return self._pid == os.getpid()

    def release(self) -> None:
        """Let the lock go; in a child that was forked since, do nothing."""
        if not self.is_mine:
            return
        _held.pop(self._path, None)
        with suppress(OSError):
            self._holder_path.unlink()
        try:
            self._lock.release()
        finally:
            self.ring()
            _guarded.discard(self)

    def holder(self) -> str:
        """Who holds the lock, for a message."""
        holder = Holder.read(self._holder_path)
        if holder is None or not holder.is_alive:
            return "a process that has not said who it is"
        return str(holder)

    def abandon(self) -> None:
        """In a forked child: make every copy of the parent's descriptors harmless, whatever filelock does with them.

        A child that keeps a copy keeps the lock after its parent's death, and one that unlocks it unlocks the parent's.
        """
        self.ring()
        with suppress(OSError):
            found = self._path.stat()
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for name in os.listdir(processes.PROC / "self/fd"):  # noqa: PTH208 - numbers, no paths
                with suppress(OSError):
                    opened = os.fstat(int(name))
                    if (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino):
                        os.dup2(null, int(name), inheritable=False)
            os.close(null)

    def _refuse_inherited(self) -> None:
        if self._path not in _inherited:
            return
        holder = Holder.read(self._holder_path)
        if holder is not None and holder.token == _inherited[self._path] and holder.is_alive:
            raise RuntimeError(
                f"{self.label} is entered by pid {os.getpid()}, which was forked from its holder ({holder}) while that"
                " held it, so each could wait for the other. HINT: fork before or after the guarded code, not in it."
            )


def _file_lock(path: Path) -> filelock.BaseFileLock:
    """A lock of the operating system, never one that only is a file's existence."""
    kind = filelock.FileLock
    if issubclass(kind, filelock.SoftFileLock):
        raise OSError(f"This Python has no flock, so filelock would use a lock {_UNSAFE}")
    # filelock 3.24 falls back where the system call is missing, from 3.30 on unless told not to.
    options: dict[str, Any] = {}
    if "fallback_to_soft" in inspect.signature(kind.__init__).parameters:
        options["fallback_to_soft"] = False
    return kind(str(path), **options)


# What this process holds.
_held: dict[Path, _Hold] = {}
_guarded: set[Lock] = set()
# What a parent held when this process was forked: tokens, and the locks themselves, kept so that no finaliser of
# filelock's ever runs on them.
_inherited: dict[Path, str] = {}
_orphans: list[Lock] = []


def _after_fork() -> None:
    _inherited.update((path, hold.token) for path, hold in _held.items())
    _orphans.extend(_guarded)
    for lock in _guarded:
        lock.abandon()
    _held.clear()
    _guarded.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
