"""A bell that the holder of a lock cannot forget to ring: all waiters wake together when it lets go, or dies.

It is a named pipe. The holder keeps it open for writing; when the last writer is gone, the kernel wakes everybody who
polls the reading end (poll(2), POLLHUP), and a process that is killed is gone too. Nothing is ever written into it.
Rings may be missed, in the moments before a holder has opened its end: whoever waits also looks by itself from time to
time. Where the pipe cannot be made, and outside Linux (whose rules for the end of a pipe these are), it does only that.
"""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

_LOOK = 0.2  # seconds between looks of a waiter that hears the bell
_LOOK_DEAF = 0.01  # and of one that does not


class Bell:
    """The holder's end.

    Args:
        path: The pipe.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = _open(path, os.O_RDWR)  # writing alone fails while nobody reads

    def ring(self) -> None:
        """Wake everybody; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Listener:
    """A waiter's end, for use in a ``with`` statement; what rings after that is heard.

    Args:
        path: The pipe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._poll: select.poll | None = None
        self._rung = False

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def wait(self, seconds: float) -> None:
        """Return when the bell rings, or a moment later for another look, at the latest after ``seconds``."""
        if self._poll is None:
            time.sleep(min(seconds, _LOOK_DEAF))
            return
        if self._rung:
            # A pipe stays at its end until it is opened anew. A ring may be missed here, so look before sleeping.
            self._close()
            self._open()
            return
        self._rung = bool(self._poll.poll(min(seconds, _LOOK) * 1000))

    def _open(self) -> None:
        self._rung = False
        self._descriptor = _open(self._path, os.O_RDONLY)
        if self._descriptor is not None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, 0)  # the end of a pipe is always reported

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self._poll = None


def _open(path: Path, flags: int) -> int | None:
    if sys.platform != "linux":
        return None
    with suppress(OSError):  # a full disk, or a file system without pipes: the bell is a convenience
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    return None
