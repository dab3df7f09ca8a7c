"""Notebook jobs: a training job whose entry point runs a notebook in a kernel, which starts the ranks by fork."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., dict[str, Any]]

SCRIPT = Path(__file__).parents[1] / "programs" / "run_notebook.py"
TRAINED = ("Trainer chooses", "ddp_notebook", "after it")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the notebook on each host of a simulated job; what the first host's cells printed."""

    def run(hosts: int = 1, **variables: str) -> dict[str, Any]:
        out = tmp_path / "found.json"
        command = [sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", str(hosts)]
        for name, value in ({"LIGHTNING_SAGEMAKER_HEARTBEAT": "20", "OMP_NUM_THREADS": "1"} | variables).items():
            command += ["--env", f"{name}={value}"]
        job = subprocess.run(
            [*command, str(SCRIPT), "--", str(out)], capture_output=True, text=True, timeout=250, check=False
        )
        assert job.returncode == 0, job.stdout + job.stderr
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    return run


def _without_places(found: dict[str, Any]) -> dict[str, Any]:
    """Frames of this package and line numbers of Lightning's are no difference."""
    return {name: [line[:60] for line in lines] if name == "exception" else lines for name, lines in found.items()}


def test_a_notebook_trains_as_in_stock_and_its_kernel_outlives_an_exception(run: Run) -> None:
    found = run()
    assert found["imports"] == []
    assert len({str(found[name]) for name in TRAINED}) == 1, found
    assert found["ddp_notebook"][0].startswith("RESULT 2 ")
    assert found["exception"][0].startswith("ProcessRaisedException")
    assert "KeyError: 'age'" in found["exception"][0]
    assert found["one device"][0].startswith("RESULT 1 ")
    assert all("not compatible with an interactive environment" in found[name][0] for name in ("ddp", "ddp_spawn"))
    assert _without_places(found) == _without_places(run(LIGHTNING_SAGEMAKER_AUTOLOAD="0"))


def test_kernels_on_two_hosts_train_together(run: Run) -> None:
    found = run(2)
    assert len({str(found[name]) for name in TRAINED}) == 1, found
    assert found["ddp_notebook"][0].startswith("RESULT 4 ")
    assert found["one device"][0].startswith("RESULT 1 ")
