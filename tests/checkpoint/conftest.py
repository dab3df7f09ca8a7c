"""A job with a checkpoint folder, for tests in this process and for scripts in new ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


def _make(base: Path) -> None:
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    for part in ("output", "checkpoints"):
        (base / part).mkdir()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Folder that stands for /opt/ml of a host of its own."""
    _make(tmp_path / "ml")
    return tmp_path / "ml"


@pytest.fixture
def job(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process one of the job; the checkpoint folder."""
    monkeypatch.setenv("TRAINING_JOB_NAME", "digits")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    return base / "checkpoints"


def _start(base: Path, folder: Path) -> Run:
    """What runs a script in a process of the job, in a folder."""
    foreign = ("SM_", "SAGEMAKER", "TRAINING_JOB", "LIGHTNING_SAGEMAKER")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def run(code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        path = folder / "train.py"
        path.write_text(code)
        return subprocess.run(
            [sys.executable, str(path), *arguments],
            env=plain | {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(base)} | environ,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Run:
    """Run a script in a process of the job."""
    return _start(base, tmp_path)


@pytest.fixture(scope="session")
def start_job() -> Callable[[Path, Path], Run]:
    """Make a job with a checkpoint configuration, or start it again, in a folder; what runs a script in it."""

    def start(base: Path, folder: Path) -> Run:
        if not base.exists():
            _make(base)
            config = {"LocalPath": str(base / "checkpoints"), "S3Uri": "s3://bucket/prefix"}
            (base / "input" / "config" / "checkpointconfig.json").write_text(json.dumps(config))
        return _start(base, folder)

    return start
