"""Finding and ending every process of a run, also those that left the process group they were started in."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from typing import TYPE_CHECKING

from lightning_sagemaker import processes

if TYPE_CHECKING:
    import signal
    from collections.abc import Collection, Iterable

MARK = "LIGHTNING_SAGEMAKER_SIMULATION"  # holds a random word: an editor that knows the run's folder is none of it


def members(mark: str) -> list[int]:
    """Find the processes whose environment holds a run's random word.

    torchrun, mpirun and user scripts start sessions of their own, so process groups do not tell; the environment is
    inherited by all. Where it cannot be read, groups are what is left.
    """
    if _readable():
        return [int(name) for name in os.listdir(processes.PROC) if name.isdigit() and _is_member(int(name), mark)]  # noqa: PTH208
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # macOS shows the environment of one's own processes here.
        listing = subprocess.run(["ps", "-A", "-E", "-o", "pid=,command="], capture_output=True, text=True, check=True)  # noqa: S607
        rows = [line.split() for line in listing.stdout.splitlines()]
        return [int(row[0]) for row in rows if f"{MARK}={mark}" in row]
    return []


def has_ranks(mark: str) -> bool:
    """Whether a process lives that a launcher started as a rank, or a child of one; no, where nothing tells."""
    names = (b"RANK=", b"OMPI_COMM_WORLD_RANK=")
    return any(entry.startswith(names) for pid in members(mark) for entry in processes.environment_of(pid))


def end_groups(leaders: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to the process groups of processes that have not been waited for."""
    for pid in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def end_members(mark: str, number: signal.Signals, groups: Collection[int] | None = None) -> int:
    """Send a signal to what is left of a run, in these process groups or in any; return how many processes it was."""
    left = members(mark)
    if groups is not None:
        left = [pid for pid in left if _group_of(pid) in groups]
    for pid in left:
        processes.send(pid, number, functools.partial(_is_member, pid, mark))
    return len(left)


def _is_member(pid: int, mark: str) -> bool:
    return not _readable() or f"{MARK}={mark}".encode() in processes.environment_of(pid)


def _readable() -> bool:
    return (processes.PROC / "self/environ").exists()


def _group_of(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.getpgid(pid)
    return None
