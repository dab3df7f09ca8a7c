"""What the operating system tells about processes: their start, their parents, the container, a clock nobody can set.

Linux tells it in ``/proc`` (proc_pid_stat(5), proc_pid_environ(5), pid_namespaces(7)); elsewhere ``ps`` is asked for
the start of a process, and the rest is left out.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROC = Path("/proc")
# Present in the *initial* environment of what a launcher on this host started, absent from the launcher's own.
_MARKS = ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
_PIDS = 1 << 22  # no system has more processes
# What tells one rank of one mpirun from all others.
_MPIRUN = (b"OMPI_COMM_WORLD_RANK", b"PMIX_NAMESPACE", b"PMIX_RANK")
# In the command of what `multiprocessing` starts by its methods spawn and forkserver.
_MULTIPROCESSING = b"from multiprocessing."


def clock() -> float:
    """Seconds since the machine started: the same for all its processes, and not moved when the time is set."""
    with suppress(AttributeError, OSError):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


_imported = clock()


def born() -> float:
    """When this process started, by :func:`clock`; where the system does not tell, when this module was imported."""
    with suppress(OSError, ValueError, IndexError):
        return int(_stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
    return _imported


def start_of(pid: int) -> str | None:
    """Something about the start of a process that a later process with the same id does not share; ``None`` if gone."""
    with suppress(OSError, IndexError, subprocess.SubprocessError):
        if (PROC / "self/stat").exists():
            return _stat(pid)[19]
        command, environment = ["ps", "-o", "lstart=", "-p", str(pid)], {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)  # noqa: S603
        return done.stdout.strip() or None
    return None


def is_stopped(pid: int) -> bool:
    """Whether a signal or a tracer has stopped the process; ``False`` where the system does not tell."""
    with suppress(OSError, IndexError):
        return _stat(pid)[0] in ("T", "t")
    return False


def has_ended(pid: int, start: str | None) -> bool:
    """Whether the process that began at ``start`` is gone, or only its parent has not noticed yet."""
    with suppress(OSError, IndexError):
        if _stat(pid)[0] in ("Z", "X"):
            return True
    return start_of(pid) != start


def send(pid: int, number: signal.Signals, is_meant: Callable[[], bool]) -> bool:
    """Send a signal to a process that is certainly the one that is meant: its number may be a later one's by now.

    Where the kernel has it (Linux 5.3), the process is held by a descriptor while it is looked at. The container's
    first process is nobody's to end, nor is this one. Returns whether it was sent.
    """
    if not 1 < pid < _PIDS or pid == os.getpid():
        return False
    held = None
    with suppress(AttributeError, OSError):  # no Linux; a sandbox or a kernel that does not know the call
        held = os.pidfd_open(pid)
    try:
        if is_meant():
            with suppress(OSError):
                if held is None:
                    os.kill(pid, number)
                else:
                    signal.pidfd_send_signal(held, number)
                return True
    finally:
        if held is not None:
            os.close(held)
    return False


def kill_launcher(names: Sequence[str]) -> bool:
    """End the program that started this rank on this host, if it has one of these names.

    It is the nearest ancestor to which mpirun has not given what it gives to this rank; wrappers in between have the
    same. Nothing beyond it is looked at: an mpirun further up is another job's, in which this one was started.
    """
    with suppress(OSError, IndexError):
        mine, pid = _given_by_mpirun(os.getpid()), os.getppid()
        while pid > 1 and mine and _given_by_mpirun(pid) == mine:
            pid = int(_stat(pid)[1])
        start, name = start_of(pid), (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
        is_meant = start is not None and bool(mine) and name in names
        return is_meant and send(pid, signal.SIGKILL, lambda: start_of(pid) == start)
    return False


def environment_of(pid: int) -> list[bytes]:
    """Variables with which a process was started, each as ``NAME=value``; none where the system does not tell."""
    with suppress(OSError):
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return []


def _given_by_mpirun(pid: int) -> set[bytes]:
    return {entry for entry in environment_of(pid) if entry.partition(b"=")[0] in _MPIRUN}


def container() -> str:
    """Identity of this start of this container: the machine's start, that of process 1, and the process namespace.

    A spot restart and a warm pool keep the job's name or the machine; neither keeps all three of these.
    """
    parts = []
    with suppress(OSError):
        parts.append((PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError, IndexError):
        parts.append(_stat(1)[19])
    with suppress(OSError):
        parts.append(os.readlink(PROC / "self/ns/pid"))  # noqa: PTH115 - a name, no path
    return " ".join(parts)


@functools.cache
def run_leader() -> tuple[int, str]:
    """Process that stands for this run on this host, and its start: the same for all processes of one run.

    It is the nearest ancestor, or this process itself, that no launcher of ranks and no ``multiprocessing`` started:
    torchrun, mpirun's daemon, or the script whose Trainer starts its own siblings. What forks keep the answer.
    """
    parent = multiprocessing.parent_process()
    pid = os.getpid() if parent is None or parent.pid is None else parent.pid
    if (PROC / "self/stat").exists():
        while pid > 1 and _was_launched(pid):
            pid = int(_stat(pid)[1])
    elif any(os.environ.get(mark) for mark in _MARKS):
        pid = os.getppid()
    start = start_of(pid)
    if start is None:
        raise RuntimeError(
            f"It cannot be told which processes belong to this run: nothing tells when process {pid} started. HINT: set"
            " LIGHTNING_SAGEMAKER_RUN_ID to a text that is the same for all processes of a run and new for the next."
        )
    return pid, start


def _remember() -> None:
    with suppress(Exception):  # says so itself when it is needed
        run_leader()


if hasattr(os, "register_at_fork"):
    # A forked child looks like its parent to the search above, and would take itself for a run of its own.
    os.register_at_fork(before=_remember)


def _was_launched(pid: int) -> bool:
    with suppress(OSError):
        if _MULTIPROCESSING in (PROC / str(pid) / "cmdline").read_bytes():
            return True
    # None of another user's process: a daemon that starts ours.
    names = {entry.partition(b"=")[0].decode(errors="replace") for entry in environment_of(pid)}
    return not names.isdisjoint(_MARKS)


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` after the command's name: [0] is the state, [1] the parent, [19] the start."""
    text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()
