from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import job
from benchmarks.plan import World, plan

if TYPE_CHECKING:
    from pathlib import Path


def test_outside_a_job_it_says_how_one_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "SM_TRAINING_ENV"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match=r"no SageMaker training job. HINT: .*python -m benchmarks run"):
        job.main(["--suites", "training"])


def test_a_launch_that_does_not_end_is_ended_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch = plan("training", World(1, 1, "none"), full=False, launches=1)[0]
    assert job._run(launch, 0, 7777, tmp_path / "samples.jsonl", 0.01) == job.TIMED_OUT
    assert "benchmark: no end after 0.01 s" in capsys.readouterr().out
