"""Ends of processes: of all those of a run, also of one that has left its process group; and of our own, by signals."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MARK = "LIGHTNING_SAGEMAKER_SIMULATION"  # holds a random word: an editor that knows the run's folder is none of it

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def handling_signals(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Within it, the signals that end a process go to a handler; in a thread beside the main one that cannot be."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        # nohup ignores the end of the terminal for what it starts.
        meant = (one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN)
        before = {number: signal.signal(number, handler) for number in meant}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def raise_signal(number: int, _frame: Any) -> None:
    """A handler that ends the process, with what stands in ``finally``, and a shell's exit code."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


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
