"""The output of processes, cut into whole lines and remembered for the error that is shown last."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 16
_REMEMBERED = 200


class Stream:
    """One standard output or standard error of one process.

    Args:
        descriptor: Its reading end, which the stream closes.
        host: Simulated host, where it is known.
        rank: Global rank, where the process is one.
        error: Whether it is a standard error.
    """

    def __init__(self, descriptor: int, host: str | None, rank: int | None, *, error: bool) -> None:
        self.descriptor = descriptor
        self.host, self.rank, self.error = host, rank, error
        self.tail: deque[str] = deque(maxlen=_REMEMBERED)
        self.open = True
        self._partial = b""
        os.set_blocking(descriptor, False)

    @property
    def label(self) -> str:
        """What stands before each line."""
        return f"[{self.host}]" if self.rank is None else f"[{self.host} rank {self.rank}]"

    def read(self) -> list[str]:
        """Read what is there.

        Returns:
            The lines that are complete, without their label. Of a progress bar, which overwrites itself with carriage
            returns, the last state is kept.
        """
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return []
        *complete, self._partial = (self._partial + data).split(b"\n")
        if b"\r" in self._partial[:-1]:
            self._partial = self._partial[self._partial.rindex(b"\r", 0, -1) + 1 :]
        if not data:
            self.open = False
            os.close(self.descriptor)
            if self._partial:
                complete.append(self._partial)
        lines = [raw.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace") for raw in complete]
        self.tail.extend(lines)
        return lines


class RankStream(Stream):
    """The output of a rank that a launcher starts, read from a named pipe; its first line names its host.

    A writing end is held until the rank has opened its own, so that "no writer yet" is not taken for the end.

    The launchers' own labels would not do: Open MPI 4.1 puts those of `--tag-output` in the middle of lines (21 of 103,
    of two ranks that print at once), and torchrun's `--tee` runs last lines without a newline together, knows local
    ranks only, and stands in no command of the toolkit. The host and the end of each rank would still be wanted.
    """

    def __init__(self, path: Path, rank: int, *, error: bool) -> None:
        os.mkfifo(path)
        super().__init__(os.open(path, os.O_RDONLY | os.O_NONBLOCK), None, rank, error=error)
        self._writer: int | None = os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    def read(self) -> list[str]:
        """Read what is there; see `Stream.read`."""
        lines = super().read()
        if self.host is None and lines and not self.error:
            self.host = lines.pop(0)
            self.tail.clear()
            self.tail.extend(lines)
            self.release()
        return lines

    def release(self) -> None:
        """Let the end of the rank, or its never having started, be seen as the end of the stream."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None
