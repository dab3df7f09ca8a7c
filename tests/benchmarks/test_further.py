from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.further import kept, scaling
from benchmarks.report import write

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.samples import Launch
    from tests.benchmarks.conftest import MakeRun


def world(launches: list[Launch], size: int, factor: float) -> list[Launch]:
    return [
        replace(
            launch,
            case=f"tiny, 1 x {size}",
            settings={**launch.settings, "model": "tiny", "world_size": size},
            steps=tuple(tuple(factor * step for step in rank) for rank in launch.steps),
            numbers={"samples/s": 100.0 / factor},
        )
        for launch in launches
    ]


@pytest.fixture
def launches(make_run: MakeRun) -> list[Launch]:
    run = make_run(0.0, launches=8)
    return world(run, 1, 1.0) + world(run, 4, 1.25)


def test_efficiency_is_the_smallest_worlds_step_over_the_larger_ones(launches: list[Launch]) -> None:
    found = {each.arm: each for each in scaling(launches)}
    assert set(found) == {"ddp", "smddp"}  # not the A/A arm
    for each in found.values():
        assert (each.smallest, each.world_size) == (1, 4)
        assert each.efficiency.ratio == pytest.approx(0.8)


def test_numbers_that_are_not_compared_are_told_by_their_medians(launches: list[Launch]) -> None:
    found = {(each.case, each.arm): each for each in kept(launches)}
    assert found["tiny, 1 x 4", "ddp"].median == pytest.approx(80)
    assert found["tiny, 1 x 1", "smddp"].launches == 8


def test_both_stand_in_the_report(tmp_path: Path, launches: list[Launch]) -> None:
    write(launches, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| tiny | smddp | 1 to 4 | 0.8000 [0.8000, 0.8000], 8 launches |" in text
    assert "| tiny, 1 x 4 | ddp | samples/s | 80 | 8 |" in text
