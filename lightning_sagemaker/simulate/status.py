"""The output of a simulation: complete lines with host and rank, and on a terminal a live status line below them."""

from __future__ import annotations

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
        stream = self._err if error else self._out
        try:
            write("".join(f"{line}\n" for line in lines), stream)
            stream.flush()
        except BrokenPipeError:
            # Whoever read us has gone (`| head`). What is still written goes nowhere, at interpreter exit too.
            self.broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

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
        self._err.write(f"{_ERASE}{line}")
        self._err.flush()
        self._shown, self._next = True, now + 1.0

    def close(self) -> None:
        """Remove the status line."""
        self._erase()

    def _erase(self) -> None:
        if self._shown:
            self._err.write(_ERASE)
            self._err.flush()
            self._shown = False
