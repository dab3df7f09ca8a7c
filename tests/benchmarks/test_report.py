from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from benchmarks import plots
from benchmarks.__main__ import main
from benchmarks.compare import UNFIT, judge
from benchmarks.report import write
from benchmarks.samples import append

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.compare import Suite
    from benchmarks.samples import Launch
    from tests.benchmarks.conftest import MakeRun


def _slower_again(launches: Sequence[Launch]) -> list[Launch]:
    """A harness that finds differences where there are none: its A/A arm is slower by 10 %."""

    def changed(launch: Launch) -> Launch:
        if launch.role != "again":
            return launch
        return replace(launch, steps=tuple(tuple(1.1 * step for step in rank) for rank in launch.steps))

    return [changed(launch) for launch in launches]


def _report(folder: Path, launches: Sequence[Launch]) -> tuple[list[str], list[Suite]]:
    suites = write(launches, folder)
    return (folder / "report.md").read_text().splitlines(), suites


def _rows(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith(("| tiny", "| A/A"))]


def test_seeded_slowdown_is_found_and_the_report_is_fit(tmp_path: Path, make_run: MakeRun) -> None:
    lines, (suite,) = _report(tmp_path, make_run(0.05))
    assert lines[0] == "# Benchmark report"
    assert not suite.unfit
    rows = _rows(lines)
    assert [row.startswith("| A/A") for row in rows] == [True, True, False, False]
    assert rows[2].endswith("| slower |")
    assert "| smddp / ddp | step_p50_seconds |" in rows[2]
    assert "(+5" in rows[2] or "(+4" in rows[2] or "(+6" in rows[2]
    assert "training" in _texts((tmp_path / "training.svg").read_text())
    assert "![training](training.svg)" in lines


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
    lines, (suite,) = _report(tmp_path, launches)
    assert lines[0].startswith("# UNFIT FOR USE: training (A/A tiny, 2 x 2, step_p50_seconds: the interval [1.")
    assert "does not cover 1.0" in lines[0]
    assert all(row.endswith(f"| {UNFIT} |") for row in _rows(lines))
    assert suite.unfit
    assert "UNFIT FOR USE" in plots.title(suite)


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
    lines, (suite,) = _report(tmp_path, make_run(0.05, launches=4))
    assert "not enough runs (4 launches)" in lines[0]
    assert all(row.endswith("| 4 | - | not enough runs |") for row in _rows(lines))
    assert not any("%" in row for row in _rows(lines))
    assert {row.comparison.ratio for row in suite.rows if row.comparison} == {None}
    assert not list(tmp_path.glob("*.svg"))


def test_fake_smddp_is_named_in_every_row_and_in_the_plot(tmp_path: Path, make_run: MakeRun) -> None:
    launches = [
        replace(launch, environment=replace(launch.environment, fake_smddp=True)) if launch.arm == "smddp" else launch
        for launch in make_run(0.05)
    ]
    lines, (suite,) = _report(tmp_path, launches)
    assert ["| fake SMDDP |" in row for row in _rows(lines)] == [False, False, True, True]
    assert [row.labels for row in suite.rows] == [(), (), ("fake SMDDP",), ("fake SMDDP",)]
    assert "training [fake SMDDP]" in _texts((tmp_path / "training.svg").read_text())


def _texts(picture: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(picture).iter() if each.tag.endswith("}text")]  # noqa: S314 - ours


def test_plot_shows_the_intervals_of_the_table_and_says_them_in_words(make_run: MakeRun) -> None:
    (suite,) = judge(make_run(0.05))
    picture = str(plots.forest(suite, "2026-11-01, 2 cores"))
    drawn = [
        (int(each.attrib["x"]), int(each.attrib["width"]), each.attrib["class"])
        for each in ET.fromstring(picture).iter()  # noqa: S314 - ours
        if each.tag.endswith("}rect") and each.attrib.get("height") == "8"
    ]
    rows = [row for row in suite.rows if row.comparison and not row.metric.endswith(plots.TAILS)]
    assert [kind for *_, kind in drawn] == ["", "bad"]  # the A/A row, and a step that is slower
    ends = sorted((row.comparison.low or 0, at) for row, (at, *_) in zip(rows, drawn, strict=True) if row.comparison)
    assert [at for _, at in ends] == sorted(at for at, *_ in drawn)
    told = ET.fromstring(picture).attrib["aria-label"]  # noqa: S314 - ours
    for row in rows:
        assert row.comparison is not None
        words = f"{row.comparison.ratio:.3f} [{row.comparison.low:.3f}, {row.comparison.high:.3f}]"
        assert words in told
        assert any(words in text for text in _texts(picture))


def test_a_report_that_is_not_as_the_samples_make_it_is_named(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path / "samples.jsonl", *make_run(0.05))
    command = ["report", str(tmp_path / "samples.jsonl"), "--output", str(tmp_path)]
    assert main([*command, "--check"]) == 1
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    (tmp_path / "training.svg").write_text("")
    assert main([*command, "--check"]) == 1
    assert "training.svg: not as the samples make it. HINT: python -m benchmarks report" in capsys.readouterr().err


def test_files_of_several_jobs_make_one_report(tmp_path: Path, make_run: MakeRun) -> None:
    for name in ("1 x 8, torchrun", "2 x 8, torchrun"):
        append(tmp_path / f"{name[0]}.jsonl", *make_run(0.05, case=f"mlp, {name}"))
    files = [str(path) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert main(["report", *files, "--output", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "| mlp, 1 x 8, torchrun | smddp / ddp |" in text
    assert "| mlp, 2 x 8, torchrun | smddp / ddp |" in text
    with pytest.raises(ValueError, match="launch 0 is there twice; one run per case"):
        main(["report", files[0], files[0], "--output", str(tmp_path)])


def test_numbers_that_are_not_compared_are_told_by_their_medians(tmp_path: Path, make_run: MakeRun) -> None:
    lines, _ = _report(tmp_path, make_run(0.0, numbers={"samples/s": 80.0}))
    assert "| tiny, 2 x 2 | smddp | samples/s | 80 | 8 |" in lines


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


def test_no_launches_make_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to report"):
        write([], tmp_path)


def test_command_fails_where_the_report_is_unfit(tmp_path: Path, make_run: MakeRun) -> None:
    for name, launches in (("fit", make_run(0.05)), ("unfit", _slower_again(make_run(0.05)))):
        for launch in launches:
            append(tmp_path / f"{name}.jsonl", launch)
    assert main(["report", str(tmp_path / "fit.jsonl"), "--output", str(tmp_path / "out")]) == 0
    assert main(["report", str(tmp_path / "unfit.jsonl"), "--output", str(tmp_path / "out")]) == 1
