from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import plots
from benchmarks.claims import CLAIMS, NOT_OURS
from benchmarks.report import main, write
from benchmarks.rows import UNFIT, judge
from benchmarks.samples import append

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.samples import Launch
    from tests.benchmarks.conftest import MakeRun


def _slower_again(launches: Sequence[Launch]) -> list[Launch]:
    """A harness that finds differences where there are none: its A/A arm is slower by 10 %."""

    def changed(launch: Launch) -> Launch:
        if launch.role != "again":
            return launch
        return replace(launch, steps=tuple(tuple(1.1 * step for step in rank) for rank in launch.steps))

    return [changed(launch) for launch in launches]


def _report(folder: Path, launches: Sequence[Launch]) -> tuple[list[str], dict[str, Any]]:
    write(launches, folder)
    lines = (folder / "report.md").read_text().splitlines()
    return lines, json.loads((folder / "report.json").read_text())


def _rows(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith(("| tiny", "| A/A"))]


def test_seeded_slowdown_is_found_and_the_report_is_fit(tmp_path: Path, make_run: MakeRun) -> None:
    lines, content = _report(tmp_path, make_run(0.05))
    assert lines[0] == "# Benchmark report"
    assert content["fit"]
    rows = _rows(lines)
    assert [row.startswith("| A/A") for row in rows] == [True, True, False, False]
    assert rows[2].endswith("| slower |")
    assert "| smddp / ddp | step_p50_seconds |" in rows[2]
    assert "(+5" in rows[2] or "(+4" in rows[2] or "(+6" in rows[2]
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    assert "![training](training.png)" in lines


def test_no_slowdown_is_not_found(tmp_path: Path, make_run: MakeRun) -> None:
    lines, _ = _report(tmp_path, make_run(0.0))
    assert all(row.endswith("| no difference shown |") for row in _rows(lines))


def test_header_says_when_where_and_with_what(tmp_path: Path, make_run: MakeRun) -> None:
    text = "\n".join(_report(tmp_path, make_run(0.0))[0])
    assert "- measured: 2026-11-01T00:00:00+00:00 to 2026-11-08T00:00:00+00:00" in text
    assert "- instance_type: ml.p4d.24xlarge" in text
    assert "- versions.torch: 2.5.1" in text
    assert "- git_hash: 0123abc" in text
    assert "- backend: nccl / smddp" in text
    assert "- warm-up steps dropped: " in text


def test_unfit_harness_says_so_first_and_judges_nothing(tmp_path: Path, make_run: MakeRun) -> None:
    launches = _slower_again(make_run(0.05))
    lines, content = _report(tmp_path, launches)
    assert lines[0].startswith("# UNFIT FOR USE: training (A/A tiny, 2 x 2, step_p50_seconds: the interval [1.")
    assert "does not cover 1.0" in lines[0]
    assert all(row.endswith(f"| {UNFIT} |") for row in _rows(lines))
    assert not content["fit"]
    assert "UNFIT FOR USE" in plots.title(judge(launches)[0])


def test_unfit_suite_leaves_the_others_alone(make_run: MakeRun) -> None:
    other = [replace(launch, suite="other") for launch in make_run(0.05)]
    training, fit = judge([*_slower_again(make_run(0.05)), *other])
    assert training.unfit
    assert not fit.unfit
    assert fit.rows[-1].verdict == "slower"


def test_suite_without_an_a_a_run_is_unfit(tmp_path: Path, make_run: MakeRun) -> None:
    lines, _ = _report(tmp_path, [launch for launch in make_run(0.05) if launch.role != "again"])
    assert lines[0] == "# UNFIT FOR USE: training (it has no A/A run)"


def test_few_launches_give_no_percentage_and_no_plot(tmp_path: Path, make_run: MakeRun) -> None:
    lines, content = _report(tmp_path, make_run(0.05, launches=4))
    assert "not enough runs (4 launches)" in lines[0]
    assert all(row.endswith("| 4 | - | not enough runs |") for row in _rows(lines))
    assert not any("%" in row for row in _rows(lines))
    assert {row["comparison"]["ratio"] for row in content["suites"][0]["rows"]} == {None}
    assert not list(tmp_path.glob("*.png"))


def test_stand_in_is_named_in_every_row_and_in_the_plot(tmp_path: Path, make_run: MakeRun) -> None:
    launches = [
        replace(launch, environment=replace(launch.environment, stand_in=True)) if launch.arm == "smddp" else launch
        for launch in make_run(0.05)
    ]
    lines, content = _report(tmp_path, launches)
    assert ["| stand-in |" in row for row in _rows(lines)] == [False, False, True, True]
    assert [row["labels"] for row in content["suites"][0]["rows"]] == [[], [], ["stand-in"], ["stand-in"]]
    (suite,) = judge(launches)
    figure = plots.forest(suite)
    assert figure is not None
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ["[stand-in]" in tick for tick in ticks] == [False, False, True, True]
    assert figure.get_suptitle() == "training [stand-in]"


def test_plot_shows_the_intervals_of_the_table(make_run: MakeRun) -> None:
    (suite,) = judge(make_run(0.05))
    figure = plots.forest(suite)
    assert figure is not None
    drawn = [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].get_lines()[0:-1:2]]
    assert drawn == [[row.comparison.low, row.comparison.high] for row in suite.rows if row.comparison]


def test_unequal_settings_are_refused_in_the_report(tmp_path: Path, make_run: MakeRun) -> None:
    launches = [
        replace(launch, settings={**launch.settings, "batch": 16}) if launch.arm == "smddp" else launch
        for launch in make_run(0.05)
    ]
    lines, _ = _report(tmp_path, launches)
    assert _rows(lines)[-1].endswith("| - | - | refused: unequal settings |")
    assert "- settings.batch: 16 against 8" in lines


def test_a_a_arms_may_differ_in_nothing(make_run: MakeRun) -> None:
    launches = [
        replace(launch, environment=replace(launch.environment, backend="gloo")) if launch.role == "again" else launch
        for launch in make_run(0.0)
    ]
    (suite,) = judge(launches)
    assert suite.unfit == ("A/A tiny, 2 x 2: refused: unequal settings",)


def test_claims_of_aws_stand_apart_with_their_sources(tmp_path: Path, make_run: MakeRun) -> None:
    lines, content = _report(tmp_path, make_run(0.0))
    claims = lines[lines.index("## What AWS reports") :]
    assert [line for line in claims if line.endswith(f"| {NOT_OURS} |")] == claims[-len(CLAIMS) :]
    assert all(claim["source"] for claim in content["claims"])


def test_no_launches_make_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to report"):
        write([], tmp_path)


def test_command_fails_where_the_report_is_unfit(tmp_path: Path, make_run: MakeRun) -> None:
    for name, launches in (("fit", make_run(0.05)), ("unfit", _slower_again(make_run(0.05)))):
        for launch in launches:
            append(tmp_path / f"{name}.jsonl", launch)
    assert main([str(tmp_path / "fit.jsonl"), "--output", str(tmp_path / "out")]) == 0
    assert main([str(tmp_path / "unfit.jsonl"), "--output", str(tmp_path / "out")]) == 1
