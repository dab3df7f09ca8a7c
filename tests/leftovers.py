"""What a run of the tests leaves behind, however it ends: no process, no network of test hosts, no folder.

Orphans of a test become children of the run (`prctl(2)`, PR_SET_CHILD_SUBREAPER), so they are found at its end. After
an ordinary end they are a failure; after Ctrl-C or SIGTERM workers finish their fixtures first, and the rest is killed.
Ranks of Open MPI that are killed leave their memory in /dev/shm, and killed jobs their locks: as root, a run has a
/dev/shm of its own, which ends with it (mount_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUBREAPER = 36
_NEW_MOUNTS, _RECURSIVE, _PRIVATE = 0x20000, 0x4000, 0x40000  # unshare(2), mount(2)
_GRACE = 15  # seconds in which what a test has ended may disappear
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # live as long as their process
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
RUN = f"t{(os.getppid() if _WORKER else os.getpid()) % 100000}x"  # how names of this run's networks begin
PREFIX = f"{RUN}{_WORKER.removeprefix('gw')}x"  # ... and of this worker's
_INTERRUPTED: list[bool] = []
_ROOT = os.environ.get("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # of `tmp_path` too, which may be kept
_TEMPORARY = Path(_ROOT, RUN)  # for jobs that fail or are killed, which keep their files


def pytest_configure() -> None:
    """Adopt orphans; put temporary files apart; let SIGTERM end a run as Ctrl-C does, which runs the fixtures' ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    if not _WORKER:
        if sys.platform == "linux" and os.geteuid() == 0:
            _have_own_shared_memory()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = _ROOT
        tempfile.tempdir = os.environ["TMPDIR"] = str(_TEMPORARY)
        _TEMPORARY.mkdir(exist_ok=True)
        owner, told = os.getpid(), list[int]()

        def interrupt(number: int, _frame: object) -> None:
            if os.getpid() != owner:
                signal.signal(number, signal.SIG_DFL)  # a process that a test forked ends as any other
                os.kill(os.getpid(), number)
            elif not told:  # once: who tells the process group, tells make too, and so this process again
                told.append(number)
                signal.default_int_handler(number, None)

        signal.signal(signal.SIGTERM, interrupt)


def _have_own_shared_memory() -> None:
    libc = ctypes.CDLL(None)
    if libc.unshare(_NEW_MOUNTS) == 0 == libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None):
        libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"mode=1777")


def pytest_keyboard_interrupt() -> None:
    """Interrupt the workers too: whoever ends the run may have told the first process only."""
    _INTERRUPTED.append(True)
    if not _WORKER:
        for process in psutil.Process().children():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGINT)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Name what is left after an ordinary end."""
    yield
    if _WORKER or session.exitstatus == pytest.ExitCode.INTERRUPTED:
        return
    _, left = psutil.wait_procs(_descendants(), timeout=_GRACE)
    names = [f"process {process.pid}: {_command(process)}" for process in left]
    names += [f"network {name}" for name in _networks()]
    if names:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line("The tests left behind:\n" + "\n".join(names), red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it all; here, as a run that is ended while it starts has no session to finish."""
    if _WORKER:
        return
    while left := _descendants(helpers=True):
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)
    for name in _networks():
        subprocess.run(["/usr/sbin/ip", "netns", "del", name], check=False)
    shutil.rmtree(_TEMPORARY, ignore_errors=True)
    if _INTERRUPTED:
        shutil.rmtree(config._tmp_path_factory.getbasetemp(), ignore_errors=True)  # type: ignore[attr-defined]


def _networks() -> list[str]:
    return sorted(path.name for path in Path("/run/netns").glob(f"{RUN}*"))


def _descendants(*, helpers: bool = False) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if helpers or not any(name in _command(process) for name in _HELPERS)]


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
