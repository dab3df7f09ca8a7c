"""Finding and ending every process of a run, also those that left the process group they were started in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def members(root: Path) -> list[int]:
    """Find the processes whose environment names a run's folder.

    torchrun, mpirun and user scripts start sessions of their own, so process groups do not tell; the environment is
    inherited by all. Where it cannot be read, groups are what is left.

    Args:
        root: Folder of the run.

    Returns:
        Their process ids.
    """
    mark = f"SAGEMAKER_BASE_DIR={root}{os.sep}"
    if Path("/proc/self/environ").exists():
        return [pid for pid in _numbers("/proc") if pid != os.getpid() and mark.encode() in _environment(pid)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # macOS shows the environment of one's own processes here.
        listing = subprocess.run(["ps", "-A", "-E", "-o", "pid=,command="], capture_output=True, text=True, check=True)  # noqa: S607
        rows = (line.split(None, 1) for line in listing.stdout.splitlines() if mark in line)
        return [int(row[0]) for row in rows if int(row[0]) != os.getpid()]
    return []


def end_groups(leaders: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to process groups, whether or not their first process still lives."""
    for pid in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def kill_members(root: Path) -> int:
    """Kill what is left of a run.

    Returns:
        How many processes were left.
    """
    left = members(root)
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def _numbers(folder: str) -> list[int]:
    return [int(name) for name in os.listdir(folder) if name.isdigit()]  # noqa: PTH208


def _environment(pid: int) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
