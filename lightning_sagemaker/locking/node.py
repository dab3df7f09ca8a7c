"""``node_lock``, and how to wait: with a limit, and a line every ten seconds that says for whom."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning_sagemaker.locking.bell import Listener
from lightning_sagemaker.locking.lock import Lock
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_TIMEOUT = 1800.0  # seconds, as torch.distributed's own patience with a process group
_REPORT = 10.0  # seconds between two lines of a waiter


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
        timeout: Seconds to wait for others. ``math.inf`` waits for ever, with a line every ten seconds.

    Raises:
        TimeoutError: Others kept the lock for so long; the message names the holder.
        RuntimeError: This thread holds it already, or a parent that forked this process while holding it; or nothing
            tells which processes belong to one run.
        OSError: There is no safe place for the lock, see :func:`lock_directory`.
        ValueError: ``name`` is empty, ``timeout`` negative, or the job's description malformed.
        TypeError: ``name`` is no string, or ``timeout`` no number.
    """
    limit = checked_timeout(timeout, "node_lock")
    lock = Lock(name, "node_lock")
    acquire(lock, limit, lambda: False)
    if lock.left_by is not None:
        log.warning("%s: the holder before this process ended without letting go: %s", lock.label, lock.left_by)
    try:
        yield
    finally:
        lock.release()


def acquire(lock: Lock, timeout: float, is_needless: Callable[[], bool]) -> bool:
    """Wait for a lock, or until it is needless.

    Args:
        lock: The lock.
        timeout: Seconds.
        is_needless: Asked before each try; may raise.

    Returns:
        Whether the lock was taken.

    Raises:
        TimeoutError: Neither happened in time.
        RuntimeError: See :meth:`Lock.try_acquire`.
        OSError: See :meth:`Lock.try_acquire`.
    """
    lock.refuse_reentry()
    if is_needless():
        return False
    if lock.try_acquire():
        return True
    patience = Patience(timeout, lock)
    with Listener(lock.beside(".bell")) as listener:
        while True:
            if is_needless():
                return False
            if lock.try_acquire():
                return True
            listener.wait(patience.left())


def checked_timeout(timeout: float, caller: str) -> float:
    """The time-out, if it is one.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative or not a number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{caller} got timeout={timeout!r}; expected seconds. HINT: math.inf waits without limit.")
    if not timeout >= 0:
        raise ValueError(f"{caller} got timeout={timeout!r}; expected 0 or more seconds. HINT: math.inf for no limit.")
    return timeout


class Patience:
    """A wait with a limit, which says every ten seconds what it waits for.

    Args:
        timeout: Seconds; ``math.inf`` for no limit.
        lock: What is waited for.

    Raises:
        TypeError: The limit is no number.
        ValueError: It is negative.
    """

    def __init__(self, timeout: float, lock: Lock) -> None:
        self._limit = timeout
        self._lock = lock
        self._start = time.monotonic()
        self._next_report = self._start + _REPORT

    def left(self) -> float:
        """Seconds until something is to be said or done.

        Raises:
            TimeoutError: None are left.
        """
        now = time.monotonic()
        waited = now - self._start
        if waited >= self._limit:
            raise TimeoutError(
                f"{self._lock.label} waited {waited:.1f} s for {self._lock.holder()}. HINT: look at what that process"
                f" does; if it only needs longer, raise `timeout` ({self._limit:g} s)."
            )
        if now >= self._next_report:
            self._next_report = now + _REPORT
            limit = "without limit" if math.isinf(self._limit) else f"at most {self._limit:g} s"
            log.warning("%s waits, %.0f s so far, %s, for %s", self._lock.label, waited, limit, self._lock.holder())
        return min(self._start + self._limit, self._next_report) - now
