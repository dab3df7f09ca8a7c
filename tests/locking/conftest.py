"""Fixtures: a run of its own, contenders as real processes, and skips that have to be explained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "SM_TRAINING_ENV")
IMPORTS = """\
import fcntl, json, os, signal, sys, threading, time
from pathlib import Path
from lightning_sagemaker.locking import node_lock, once_per_node

def note(line):
    with open(folder / "notes", "a") as file:
        file.write(f"{line}\\n")

def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)

class witness:
    # A lock of another kind (lockf, not flock): two at once are seen whatever the lock under test thinks.
    def __enter__(self):
        self.file = open(folder / "witness", "a")
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            note(f"VIOLATION by {os.getpid()}")
    def __exit__(self, *_):
        self.file.close()
"""


@pytest.fixture(autouse=True)
def run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put this process and its children into a run of their own; return the folder for lock files."""
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    base = tmp_path / "locks"
    base.mkdir()
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_LOCK_DIR", str(base))
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RUN_ID", uuid.uuid4().hex)
    return base


class Crew(list[dict[str, Any]]):
    """What the contenders saw, by index, and what they noted down."""

    def __init__(self, folder: Path, output: str) -> None:
        files = sorted(folder.glob("*[0-9].json"), key=lambda path: int(path.stem))
        super().__init__(json.loads(path.read_text(encoding="utf-8")) for path in files)
        notes = folder / "notes"
        self.folder = folder
        self.output = output
        self.notes = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []

    @property
    def survivors(self) -> list[dict[str, Any]]:
        """Those that nobody killed."""
        return [record for record in self if "killed" not in record]


@pytest.fixture
def crew(tmp_path: Path) -> Callable[..., Crew]:
    """Let a number of processes act at once: ``crew(8, 'def act(index): ...')``."""

    def run(count: int, scene: str, *, limit: float = 60, env: dict[str, str] | None = None) -> Crew:
        folder = tmp_path / f"crew-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        script = folder / "scene.py"
        script.write_text(IMPORTS + textwrap.dedent(scene), encoding="utf-8")
        command = [sys.executable, str(HERE / "zygote.py"), str(count), str(limit), str(folder), str(script)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit + 60, check=False, env={**os.environ, **(env or {})}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result = Crew(folder, done.stdout + done.stderr)
        assert not [line for line in result.notes if "VIOLATION" in line], result.notes
        return result

    return run


@pytest.fixture(scope="session")
def require() -> Callable[[str], NoReturn]:
    """Skip for a reason; where everything has to run (CI), fail for it."""

    def skip(reason: str) -> NoReturn:
        if os.environ.get("LIGHTNING_SAGEMAKER_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return skip


@pytest.fixture
def mounted(tmp_path: Path, require: Callable[[str], NoReturn]) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system in memory, with options."""
    folders: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mount-{len(folders)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            require(f"no mount here: {error}")
        if done.returncode:
            require(f"only root can mount a small file system: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - as found in PATH
