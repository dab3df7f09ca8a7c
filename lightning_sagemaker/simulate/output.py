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
    """One standard output or standard error of one process; closes the ends of the pipe that it is given.

    That of a rank which a launcher starts comes from a named pipe, and its first line names the host. A writing end is
    held until then, so that "no writer yet" is not taken for the end.

    The launchers' own labels would not do: Open MPI 4.1 puts those of `--tag-output` in the middle of lines (21 of 103,
    of two ranks that print at once), and torchrun's `--tee` runs last lines without a newline together, knows local
    ranks only, and stands in no command of the toolkit. The host and the end of each rank would still be wanted.
    """

    def __init__(
        self, descriptor: int, host: str | None, rank: int | None, *, error: bool, writer: int | None = None
    ) -> None:
        self.descriptor, self._writer = descriptor, writer
        self.host, self.rank, self.error = host, rank, error
        self.tail: deque[str] = deque(maxlen=_REMEMBERED)
        self.open = True
        self._partial = b""
        os.set_blocking(descriptor, False)

    @classmethod
    def named(cls, path: Path, rank: int, *, error: bool) -> Stream:
        """Make a named pipe for a rank, and read from it."""
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return cls(reader, None, rank, error=error, writer=os.open(path, os.O_WRONLY | os.O_NONBLOCK))

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
        if self.host is None and lines:
            self.host = lines.pop(0)
            self.release()
        self.tail.extend(lines)
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
        self._shown: float | None = None  # since when there is a status line
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
        if not self._live or (self._shown is not None and time.monotonic() < self._shown + 1.0):
            return
        minutes, seconds = divmod(int(self.elapsed), 60)
        line = f"{text} | {minutes}:{seconds:02d}"[: shutil.get_terminal_size().columns - 1]
        self._write(f"{_ERASE}{line}", self._err)
        self._shown = time.monotonic()

    def close(self) -> None:
        """Remove the status line."""
        if self._shown is not None:
            self._write(_ERASE, self._err)
            self._shown = None

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
