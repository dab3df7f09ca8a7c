"""Finds the first failure of a job in the launchers' messages: their own exit code often does not tell."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """The first failure of a job.

    Args:
        host: Host on which it happened, if known.
        rank: Global rank that failed, if known.
        code: Exit code as a shell reports it: 128 + n for signal n.
        error: Last part of what the failed process wrote to its standard error.
    """

    host: str | None
    rank: int | None
    code: int
    error: list[str]

    def happened(self) -> str:
        """One line on where it happened."""
        rank = "" if self.rank is None else f", rank {self.rank}"
        return f"the job failed on {self.host}{rank}, exit code {self.code}:"

    def indented(self) -> list[str]:
        """The error below that line."""
        return [f"  {line}" for line in self.error]

    def __str__(self) -> str:
        return "\n".join([self.happened(), *self.indented()])

    __repr__ = __str__


@dataclass(frozen=True)
class Diagnosis:
    """A launcher's message that its job is failing.

    Args:
        rank: Global rank that failed first, if it was named.
        local_rank: The same within the host.
        code: Its exit code, negative for a signal, if it was named.
    """

    rank: int | None = None
    local_rank: int | None = None
    code: int | None = None

    @property
    def names_rank(self) -> bool:
        """Whether it says which rank it was."""
        return self.rank is not None or self.local_rank is not None


# torchrun: one worker failed, the others are being ended; then which one it was.
_CLOSING = re.compile(r"Sending process \d+ closing signal")
_WORKER_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
# Open MPI 4 (mpirun) and 5 (prterun): an exit, a signal, an abort. Their own exit code is the rank's.
_OPEN_MPI = (
    re.compile(r"^\s*Process name: \[.*,(\d+)\]"),
    re.compile(r"noticed that process rank (\d+) with PID"),
    re.compile(r"exited due to process rank (\d+) with PID"),
)


def read(line: str) -> Diagnosis | None:
    """Read a line that a launcher wrote.

    Args:
        line: A line of torchrun's or mpirun's own output.

    Returns:
        What it says about a failure, or None.
    """
    if found := _WORKER_FAILED.search(line):
        return Diagnosis(local_rank=int(found[2]), code=int(found[1]))
    for pattern in _OPEN_MPI:
        if found := pattern.search(line):
            return Diagnosis(rank=int(found[1]))
    if _CLOSING.search(line):
        return Diagnosis()
    return None
