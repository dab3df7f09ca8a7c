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


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Folder that stands for /opt/ml of a host of its own."""
    config = tmp_path / "ml" / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    for part in ("output", "checkpoints"):
        (tmp_path / "ml" / part).mkdir()
    return tmp_path / "ml"


@pytest.fixture
def job(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process one of the job; the checkpoint folder."""
    monkeypatch.setenv("TRAINING_JOB_NAME", "digits")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    return base / "checkpoints"


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Run:
    """Run a script in a process of the job."""
    foreign = ("SM_", "SAGEMAKER", "TRAINING_JOB", "LIGHTNING_SAGEMAKER")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "train.py"
        path.write_text(code)
        return subprocess.run(
            [sys.executable, str(path)],
            env=plain | {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(base)} | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run
