"""Runs of tests that are ended leave nothing; those that leave something fail. They are real runs of a file below."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# Background jobs of a shell ignore SIGINT, and so do the processes that they start.
CONFTEST = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nfrom tests.leftovers import *\n"
# What a test may start: a child that ignores the usual signals, and an orphan in a session of its own.
TESTS = """
import pathlib, subprocess, sys, tempfile, time
import pytest

SLEEP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"

def start(folder):
    tempfile.mkdtemp()  # as a job that is killed, which keeps its files
    pathlib.Path("/dev/shm", f"left-{pathlib.Path(__file__).parent.stat().st_ino}").touch()  # as a rank of Open MPI
    subprocess.Popen([sys.executable, "-c", SLEEP, str(folder)])
    subprocess.run(["sh", "-c", f"setsid {sys.executable} -c '{SLEEP}' {folder} >/dev/null 2>&1 &"], check=True)
    (folder / "started").touch()

@pytest.fixture
def cleaned(tmp_path):
    yield
    pathlib.Path(__file__).with_name("finished").touch()

def test_waits(cleaned, tmp_path):
    start(tmp_path)
    time.sleep(600)

@pytest.fixture
def slow(tmp_path):
    yield
    start(tmp_path)
    time.sleep(600)

def test_ends_slowly(slow):
    pass

def test_leaves_an_orphan(tmp_path):
    subprocess.run(["sh", "-c", f"setsid {sys.executable} -c '{SLEEP}' {tmp_path} >/dev/null 2>&1 &"], check=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path


def start(folder: Path, test: str, *options: str) -> subprocess.Popen[str]:
    (folder / "temporary").mkdir()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--rootdir", str(folder), *options, "-k", test],
        cwd=folder,
        env=plain | {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def without_make() -> dict[str, str]:
    """Variables in which a make that runs the tests does not tell another one what to do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def started(folder: Path) -> list[str]:
    found = psutil.process_iter(["cmdline"])
    commands = [" ".join(process.info["cmdline"] or ()) for process in found]
    return [command for command in commands if str(folder / "temporary") in command]


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "a worker"])
@pytest.mark.parametrize("test", ["test_waits", "test_ends_slowly"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_process_and_no_folder(
    tmp_path: Path, run: Path, test: str, options: tuple[str, ...], number: signal.Signals
) -> None:
    ended = start(run, test, *options)
    while not list(tmp_path.glob("temporary/**/started")):
        assert ended.poll() is None, ended.communicate()
        time.sleep(0.02)
    assert len(started(run)) == 2
    ended.send_signal(number)
    output, _ = ended.communicate()
    assert ended.returncode == pytest.ExitCode.INTERRUPTED, output
    assert started(run) == []
    assert [path for path in tmp_path.glob("temporary/*/*") if not path.is_symlink()] == []
    shared = Path("/dev/shm", f"left-{run.stat().st_ino}")  # noqa: S108 - no temporary file: the place is meant
    stays = shared.exists()
    shared.unlink(missing_ok=True)
    assert not stays or os.geteuid()  # who is not root cannot have one of its own
    assert [path.name.partition("-")[0] for path in tmp_path.glob("temporary/*")] == ["pytest"]
    assert (tmp_path / "finished").exists() == (test == "test_waits"), output


SLOW_START = """
import pathlib, time
import pytest

@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):  # its workers start meanwhile
        pathlib.Path(__file__).with_name("starts").touch()
        time.sleep(600)
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_a_run_that_is_ended_while_it_starts_leaves_nothing(
    tmp_path: Path, run: Path, options: tuple[str, ...]
) -> None:
    (run / "conftest.py").write_text(CONFTEST + SLOW_START)
    ended = start(run, "test_waits", *options)
    while not (tmp_path / "starts").exists():
        assert ended.poll() is None, ended.communicate()
        time.sleep(0.02)
    for _ in range(2):  # by who tells the whole process group, and make
        ended.send_signal(signal.SIGTERM)
    output, _ = ended.communicate()
    assert ended.returncode == pytest.ExitCode.INTERRUPTED, output
    assert started(run) == []
    assert [path for path in tmp_path.glob("temporary/*/*") if not path.is_symlink()] == []
    assert [path.name.partition("-")[0] for path in tmp_path.glob("temporary/*")] in ([], ["pytest"])


DIES = """
import os, time
import pytest

@pytest.mark.parametrize("number", range(24))
def test_number(number):
    time.sleep(0.1)
    if number == 17:  # the others have nothing left to be given
        os._exit(1)
"""


def test_a_worker_that_dies_ends_the_run_with_the_name_of_its_test(run: Path) -> None:
    make = ["/usr/bin/env", "make", "--eval=options:\n\t@echo $(PYTEST)", "options"]
    options = subprocess.check_output(make, cwd=Path(__file__).parents[1], env=without_make(), text=True).split()
    (run / "test_it.py").write_text(DIES)
    dies = start(run, "test_number", *options[options.index("pytest") + 1 :])
    try:
        output, _ = dies.communicate(timeout=120)
    finally:
        dies.kill()
    assert dies.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert "crashed while running 'test_it.py::test_number[17]'" in output


RECIPE = (
    "drill:\n\ttrue\n\tsh -c '{python} -c \"import time; time.sleep(600)\" {folder} & echo $$TMPDIR>{told}; wait'\n"
)


def test_make_that_is_ended_ends_what_its_recipe_has_started(tmp_path: Path) -> None:
    told = tmp_path / "told"
    recipe = RECIPE.format(python=sys.executable, folder=tmp_path / "temporary", told=told)
    make = ["/usr/bin/env", "make", f"--eval={recipe}", "drill"]
    ended = subprocess.Popen(make, cwd=Path(__file__).parents[1], env=without_make(), stderr=subprocess.DEVNULL)
    while not (told.exists() and told.read_text().endswith("\n") and started(tmp_path)):
        assert ended.poll() is None
        time.sleep(0.02)
    temporary = Path(told.read_text().strip())
    assert temporary.is_dir()
    ended.send_signal(signal.SIGTERM)  # itself alone
    assert ended.wait() != 0
    assert started(tmp_path) == []
    assert not temporary.exists()


def test_what_a_test_leaves_behind_fails_the_run_and_is_ended(tmp_path: Path, run: Path) -> None:
    ended = start(run, "test_leaves_an_orphan")
    output, _ = ended.communicate()
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert "The tests left behind:\nprocess " in output
    assert str(tmp_path / "temporary") in output
    assert started(run) == []
