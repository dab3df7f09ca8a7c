"""``node_lock``: filelock's operating system lock, with the holder's name for waiting processes.

The kernel frees the lock when its holder ends, however it ends; a forked child does not have it, since filelock closes
its copy. The record of who holds it is for messages, and for a forked child that would wait for its own parent.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import filelock

from lightning_sagemaker.locking.directory import ELSEWHERE, Process, file_stem, lock_directory, write
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEFAULT_TIMEOUT = 1800.0  # seconds, as torch.distributed's own patience with a process group
# Seconds between two tries: 10 ms at first, which take 2 % of a core, then 1 % of the wait so far. filelock logs each
# try at level DEBUG.
_POLL, _LONGEST_POLL = 0.01, 0.2
_REPORT = 30.0  # seconds between two lines of a waiter
_SERIAL = "_lightning_sagemaker_serial"  # mark of a `setup` that is ours
_inside: set[int] = set()  # ids of objects whose `setup` runs in this process
_held: dict[Path, Lock] = {}  # by this process, or by its parent when that forked it


@contextmanager
def node_lock(name: str, *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[None]:
    """Let one process of this host at a time into the body of a ``with`` statement (or into a function, as decorator).

    No process group is needed. The kernel frees the lock when its holder ends, however it ends. Threads exclude each
    other too. A child that is forked inside the body does not hold the lock.

        >>> with node_lock("tokenizer"):  # doctest: +SKIP
        ...     download()

    Args:
        name: Any text. The same text is the same lock in all processes of one run on one host, and a different lock in
            every other run, job, container and host; see ``docs/locking.md``.
        timeout: Seconds to wait for others. ``math.inf`` waits for ever, with a line every 30 seconds.

    Raises:
        TimeoutError: Others kept the lock for so long; the message names the holder.
        RuntimeError: This thread holds it already, or a parent that forked this process while holding it; or nothing
            tells which processes belong to one run.
        OSError: There is no safe place for the lock; the message says why.
        ValueError: ``name`` is empty, ``timeout`` negative, or the job's description malformed.
        TypeError: ``name`` is no string, or ``timeout`` no number.
    """
    lock = Lock(name, timeout, "node_lock")
    try:  # from here on: a signal's handler, or a log's, may raise at any moment
        lock.acquire()
        if lock.left_by is not None:
            log.warning("%s: the previous holder ended without releasing the lock: %s", lock.label, lock.left_by.hold)
        yield
    finally:
        lock.release()


class SerialSetup:
    """Mixin for a ``LightningDataModule`` or ``LightningModule``: one process of a host at a time runs ``setup()``.

    Lightning calls ``setup()`` in all processes at once. With this, the first one builds what the others then find. It
    must not talk to other ranks (no ``barrier``, no ``all_reduce``): they are waiting to come in.

        >>> class Digits(SerialSetup, LightningDataModule): ...  # doctest: +SKIP

    Attributes:
        setup_timeout: Seconds to wait for the processes before.

    Raises:
        TimeoutError: From ``setup()``: others took longer; the message names the one inside.
    """

    setup_timeout: float = DEFAULT_TIMEOUT

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        setup = getattr(cls, "setup", None)  # its own, or that of another base
        if setup is not None and not hasattr(setup, _SERIAL):
            cls.setup = _serial(setup)  # type: ignore[attr-defined]


def _serial(setup: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(setup)
    def one_at_a_time(self: Any, *args: Any, **kwargs: Any) -> None:
        if id(self) in _inside:  # a subclass's `setup` calls this one
            return setup(self, *args, **kwargs)
        with node_lock(f"setup of {type(self).__qualname__}", timeout=self.setup_timeout):
            _inside.add(id(self))
            try:
                return setup(self, *args, **kwargs)
            finally:
                _inside.discard(id(self))

    setattr(one_at_a_time, _SERIAL, True)
    return one_at_a_time


class Lock:
    """A named lock of this run; the same name is the same lock in all processes of the host."""

    def __init__(self, name: str, timeout: float, caller: str) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"{caller} got timeout={timeout!r}; expected seconds. HINT: math.inf waits without limit.")
        if not timeout >= 0:  # nor NaN
            raise ValueError(f"{caller} got timeout={timeout!r}; expected 0 or more seconds. HINT: math.inf: no limit.")
        if not isinstance(name, str):
            raise TypeError(f"{caller} got {name!r}; expected a string. HINT: any text that names what is guarded.")
        if not name:
            raise ValueError(f"{caller} got an empty string; expected a name. HINT: any text that says what it guards.")
        self.label = f"{caller}({name!r})"
        self.left_by: Process | None = None  # the previous holder, if that ended without releasing it
        self._timeout = timeout
        self._stem = lock_directory() / file_stem(f"{caller} {name}")
        self._record = self.beside(".holder")
        self._me: Process | None = None
        self._thread = 0
        # Never the mere existence of a file in its place, which two processes can hold at once. Of no thread's own, as
        # an executor may leave a block in another one than it was entered in.
        self._lock = filelock.UnixFileLock(self.beside(".lock"), thread_local=False, fallback_to_soft=False)

    def beside(self, suffix: str) -> Path:
        """Path of a file of this lock."""
        return self._stem.with_name(self._stem.name + suffix)

    @property
    def is_held(self) -> bool:
        """Whether the lock is held through this object; ``False`` in a child that was forked since."""
        return self._lock.is_locked

    def acquire(self, is_needless: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the lock or until it is needless; whether it was taken. Call :meth:`release`, whatever it raises."""
        start = time.monotonic()
        report = start + _REPORT
        while not is_needless():
            self._refuse_endless_wait()
            if self._try():
                return True
            now = time.monotonic()
            waited, left = now - start, start + self._timeout - now
            if left <= 0:
                raise TimeoutError(
                    f"{self.label} waited {waited:.1f} s for {self._holder()}. HINT: look at what that process does; if"
                    f" it only needs longer, raise `timeout` ({self._timeout:g} s)."
                )
            if now >= report:
                report = now + _REPORT
                text = "%s has waited %.0f s (limit: %g s) for %s"
                log.warning(text, self.label, waited, self._timeout, self._holder())
            time.sleep(min(max(_POLL, waited / 100), _LONGEST_POLL, left))
        return False

    def _try(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
            self.left_by, self._me = Process.read(self._record), (me := Process.me())
            _held[self._stem], self._thread = self, threading.get_ident()
            with suppress(OSError):  # a full disk must not keep anybody from working
                write(self._record, asdict(me))
        except filelock.Timeout:
            return False
        except OSError as error:
            text = f"{self._stem}.lock cannot be locked for {self.label}: {error.strerror}. {ELSEWHERE}"
            raise OSError(error.errno, text) from error
        return True

    def release(self) -> None:
        """Release the lock; in a child that was forked since, do nothing."""
        if self.is_held:
            _held.pop(self._stem, None)
            with suppress(OSError):
                self._record.unlink()
            self._lock.release()

    def _holder(self) -> str:
        holder = Process.read(self._record)
        return holder.hold if holder is not None and holder.is_alive else "a process that has not said who it is"

    def _refuse_endless_wait(self) -> None:
        held = _held.get(self._stem)
        if held is None:
            return
        if held.is_held and held._thread == threading.get_ident():  # noqa: SLF001 - of this class
            raise RuntimeError(
                f"{self.label} is entered again by the thread that holds it, which would wait for itself. HINT: take"
                " the lock once, around both, or use two names."
            )
        parent = held._me  # noqa: SLF001 - of this class
        if parent and parent.pid != os.getpid() and parent == Process.read(self._record) and parent.is_alive:
            raise RuntimeError(
                f"{self.label} is entered by pid {os.getpid()}, which was forked from its holder ({parent.hold}) while"
                " that held it, so each could wait for the other. HINT: fork before or after the guarded code, not in"
                " it."
            )
