"""The output of a simulation: lines of processes, complete and with host and rank, and a status line on a terminal."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections import deque
from typing import TYPE_CHECKING, TextIO

from lightning_sagemaker.options import write

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 16
_REMEMBERED = 200  # lines, for the error that is shown last
_ERASE = "\r\x1b[2K"


class Stream:
    """One standard output or standard error of one process; closes the reading end that it is given."""

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
        """Read what is there: the lines that are complete, without their label.

        Of a progress bar, which overwrites itself with carriage returns, the last state is kept.
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
    """An output of a rank that a launcher starts, read from a named pipe; its first line names its host.

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
        if self.host is None and lines:
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


class Console:
    """Writes lines whole and keeps the status line, which goes to ``err`` as notes do, out of their way."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._live = err.isatty()
        self.broken = False
        self._shown = False
        self._next = 0.0
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the console was made."""
        return time.monotonic() - self._started

    def lines(self, lines: list[str], *, error: bool = False) -> None:
        """Write complete lines of the job, all at once."""
        self.close()
        self._write("".join(f"{line}\n" for line in lines), self._err if error else self._out)

    def note(self, text: str) -> None:
        """Write a line of our own."""
        self.lines([f"simulate: {text}"], error=True)

    def status(self, text: str) -> None:
        """Show the status; at most once per second, and only on a terminal."""
        now = time.monotonic()
        if not self._live or (self._shown and now < self._next):
            return
        minutes, seconds = divmod(int(self.elapsed), 60)
        line = f"{text} | {minutes}:{seconds:02d}"[: shutil.get_terminal_size().columns - 1]
        self._write(f"{_ERASE}{line}", self._err)
        self._shown, self._next = True, now + 1.0

    def close(self) -> None:
        """Remove the status line."""
        if self._shown:
            self._write(_ERASE, self._err)
            self._shown = False

    def _write(self, text: str, stream: TextIO) -> None:
        try:
            write(text, stream)
            stream.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            # Whoever read us has gone (`| head`, a terminal). What is still written goes nowhere, at our exit too.
            self.broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
