"""Signals go to the process that is meant, or to none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker import processes
from lightning_sagemaker.distributed.peers import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MPIRUN = next(filter(os.path.exists, ("/usr/bin/mpirun", shutil.which("mpirun") or "")), None)
# Ends its launcher, says so, and stays until the test has read it, or for a moment.
RANK = """
import os, sys, time
from lightning_sagemaker import processes
ended = processes.kill_launcher(("mpirun", "mpiexec", "orted", "prterun", "prted", "orterun"))
open(sys.argv[1] + ".new", "w").write(str(ended))
os.rename(sys.argv[1] + ".new", sys.argv[1])
until = time.monotonic() + 60
while ended and os.path.exists(sys.argv[1]) and time.monotonic() < until:
    time.sleep(0.05)
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_process_whose_number_another_one_had_before_is_not_killed(other: subprocess.Popen[bytes]) -> None:
    start = processes.start_of(other.pid)
    assert start is not None
    for wrong in ("", "None", start[:-1], f"{start} ", "1"):
        Process(3, other.pid, wrong).kill()
    for pid in (0, 1, -1, -other.pid, os.getpid(), other.pid + (1 << 32), 10**400):
        Process(3, pid, start).kill()
        assert not processes.send(pid, signal.SIGKILL, lambda: True)
    assert other.poll() is None
    Process(3, other.pid, start).kill()
    assert other.wait(20) == -signal.SIGKILL
    assert not processes.send(other.pid, signal.SIGKILL, lambda: processes.start_of(other.pid) == start)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux")
def test_a_process_is_held_while_it_is_looked_at(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be given away between the look and the signal; a descriptor is not."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as first:
        descriptor = os.pidfd_open(first.pid)
        first.wait(20)
    # As if the number of `first`, which has ended, had been given to `other` after the descriptor was made.
    monkeypatch.setattr(os, "pidfd_open", lambda _: descriptor)
    assert not processes.send(other.pid, signal.SIGKILL, lambda: True)
    assert other.poll() is None


def test_where_the_kernel_holds_no_process_it_is_looked_at_all_the_same(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unknown)
    assert not processes.send(other.pid, signal.SIGKILL, lambda: False)
    assert processes.send(other.pid, signal.SIGKILL, lambda: True)
    assert other.wait(20) == -signal.SIGKILL


@pytest.mark.skipif(MPIRUN is None, reason="no mpirun")
@pytest.mark.parametrize("around", [[], ["/bin/sh", "-c", '"$@"; exit', "sh"]], ids=["directly", "in a wrapper"])
def test_the_mpirun_that_started_a_rank_ends_with_it(tmp_path: Path, around: list[str]) -> None:
    said = tmp_path / "said"
    command = [str(MPIRUN), "-np", "1", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_"))}
    done = subprocess.run(
        [*command, *around, sys.executable, "-c", RANK, str(said)], env=environ, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while not said.exists():  # the rank says it when mpirun has gone
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said.read_text() == "True"
    said.unlink()


@pytest.mark.skipif(MPIRUN is None, reason="no mpirun")
def test_an_mpirun_in_which_the_whole_job_was_started_does_not(tmp_path: Path) -> None:
    """A job that is simulated where no mpirun can play its hosts: its ranks have mpirun's variables, and no mpirun."""
    said, supervisor = tmp_path / "said", tmp_path / "supervisor.py"
    supervisor.write_text(
        textwrap.dedent(
            f"""
            import os, subprocess, sys
            given = {{k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}}
            given |= {{"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}}
            sys.exit(subprocess.call([sys.executable, "-c", {RANK!r}, {str(said)!r}], env=given))
            """
        )
    )
    command = [str(MPIRUN), "-np", "1", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe"]
    done = subprocess.run([*command, sys.executable, str(supervisor)], check=False, timeout=60)
    assert done.returncode == 0
    assert said.read_text() == "False"


def test_a_process_that_no_mpirun_started_ends_none(tmp_path: Path) -> None:
    program = tmp_path / "mpirun"  # a script's name is the name of its command
    program.write_text(f'#!/bin/sh\n{sys.executable} -c "$1" {tmp_path}/said\nexit\n')
    program.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_"))}
    assert subprocess.run([program, RANK], env=environ, check=False, timeout=60).returncode == 0
    assert (tmp_path / "said").read_text() == "False"
