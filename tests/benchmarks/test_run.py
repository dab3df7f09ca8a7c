"""The whole program on this machine, with few launches: real torchrun, real mpirun, the fake SMDDP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import main
from benchmarks.compare import metrics_of
from benchmarks.plan import SUITES
from benchmarks.run import ROOT, follow, steps
from benchmarks.samples import read

if TYPE_CHECKING:
    from benchmarks.samples import Launch

# The environment that has torch and Lightning lies around that of the harness: Makefile.
PYTHON = Path(sys.prefix).parent / "bin" / "python"


def measured(folder: Path, suite: str) -> list[Launch]:
    code = main(["run", "--suites", suite, "--launches", "1", "--python", str(PYTHON), "--output", str(folder)])
    assert code == 1  # one launch is not enough to judge anything
    assert "not enough runs" in (folder / "report.md").read_text().splitlines()[0]
    (samples,) = folder.glob("samples-*.jsonl")
    return read(samples)


@pytest.mark.timeout(280)
def test_collectives_are_checked_and_measured_on_the_backend_that_was_asked_for(tmp_path: Path) -> None:
    launches = measured(tmp_path, "collectives")
    backends = {(launch.arm, launch.environment.backend, launch.environment.fake_smddp) for launch in launches}
    assert backends == {("gloo", "gloo", False), ("gloo again", "gloo", False), ("smddp", "smddp", True)}
    assert {launch.environment.launcher for launch in launches} == {"mpirun"}
    assert {len(launch.steps) for launch in launches} == {2}
    cases = {launch.case for launch in launches if launch.arm == "smddp"}
    assert {
        f"{name}, 2 x 1, mpirun" for name in ("all_reduce, 1 KiB", "all_reduce, 4 MiB", "all_gather, 256 KiB")
    } <= cases
    assert not [case for case in cases if case.startswith("reduce_scatter")]  # SMDDP has none under mpirun
    for launch in launches:
        algbw, busbw = launch.numbers["algbw, GB/s"], launch.numbers["busbw, GB/s"]
        factor = {"all_reduce": 1.0, "all_gather": 0.5, "reduce_scatter": 0.5, "broadcast": 1.0}  # for two ranks
        assert busbw == pytest.approx(algbw * factor[launch.case.partition(",")[0]])
    assert "fake SMDDP, plumbing check" in (tmp_path / "report.md").read_text()


@pytest.mark.timeout(280)
def test_logging_is_measured_with_and_without_metrics_on_stock_and_on_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples.jsonl"
    step, *_ = steps(["logging"], str(PYTHON), samples, full=False, launches=1)
    follow(*step)
    assert capsys.readouterr().out.count("logging, 1 x 2, torchrun: ") == 4
    launches = read(samples)
    assert {launch.arm for launch in launches} == {"native", "native again", "ddp", "smddp"}
    for launch in launches:
        silent, local, reduced = (
            launch.numbers[f"step_{kind}metrics_seconds"] for kind in ("without_", "with_local_", "with_")
        )
        assert reduced > local > silent > 0
        assert {len(steps) for steps in launch.steps} == {60}
        assert launch.environment.launcher == "torchrun"


def test_of_steps_that_log_nothing_the_median_is_told() -> None:
    steps = [[9.0] * 5 + [1.0, 2.0, 3.0], [9.0] * 5 + [4.0, 1.0, 1.0]]  # of two ranks, the first five to warm up
    program = f"from benchmarks.workers.logging import combine; print(combine({{'metrics': 0}}, {steps}, ()))"
    done = subprocess.run([PYTHON, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "{'step_seconds': 3.0}\n"


def test_a_program_that_fails_ends_the_run_with_its_last_words() -> None:
    command = (sys.executable, "-c", "print('no space left'); raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"training ended with exit code 3:\nno space left"):
        follow("training", command)


def test_a_full_run_covers_every_suite(tmp_path: Path) -> None:
    found = [title.partition(",")[0] for title, _ in steps([*SUITES], "python", tmp_path, full=True, launches=12)]
    assert [*dict.fromkeys(found)] == [*SUITES]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("suite", [name for name, each in SUITES.items() if each.cases is None])
def test_a_suite_without_a_job_measures_what_it_says(tmp_path: Path, suite: str) -> None:
    few = {
        "start-up": [],
        "locking": ["--waiters=2", "--rounds=2"],
        "checkpoints": ["--megabytes=20"],
        "lines": [],
        "scale": ["--hosts=[2]", "--seconds=0.5"],
        "rendezvous": ["--hosts=2"],
        "faults": [],
    }
    samples = tmp_path / "samples.jsonl"
    command = (str(PYTHON), "-m", "benchmarks.local", suite, str(samples), "--launches=1", *few[suite])
    follow(suite, command)
    launches = read(samples)
    assert {launch.suite for launch in launches} == {suite}
    assert {launch.role for launch in launches} == {"baseline", "again", "candidate"}
    compared = [launch for launch in launches if not launch.case.endswith(", once")]
    assert all(metrics_of(launch) for launch in compared)


def test_commands_are_listed_where_none_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "measure on this machine" in capsys.readouterr().err
