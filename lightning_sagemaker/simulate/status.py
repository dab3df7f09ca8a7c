"""The output of a simulation: complete lines with host and rank, and on a terminal a live status line below them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from typing import TextIO

from lightning_sagemaker.options import write

_ERASE = "\r\x1b[2K"


class Console:
    """Writes lines whole and keeps the status line out of their way.

    Args:
        out: Receives what the job prints to its standard output.
        err: Receives what the job prints to its standard error, notes and the status line.
    """

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
        self._erase()
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
        self._erase()

    def _erase(self) -> None:
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
