from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.compare import baseline_of, compare, decisive, differences, metrics_of

if TYPE_CHECKING:
    from benchmarks.samples import Launch
    from tests.benchmarks.conftest import MakeLaunch


def test_all_that_decides_has_a_key(make_launch: MakeLaunch) -> None:
    keys = decisive(make_launch())
    assert keys["settings.model.width"] == "64"
    assert keys["environment.backend"] == '"nccl"'
    assert keys["environment.variables.NCCL_DEBUG"] == '"WARN"'


def test_arms_may_differ_in_what_makes_them_arms(make_launch: MakeLaunch) -> None:
    ours = make_launch("smddp", backend="smddp", versions={"smdistributed-dataparallel": "2.6.0"})
    assert differences([ours], [make_launch("ddp")]) == []


def test_unequal_settings_are_refused_and_listed_with_both_values(make_launch: MakeLaunch) -> None:
    ours = make_launch("smddp", settings={"batch": 16, "seed": 1, "strategy": "smddp"}, versions={"torch": "2.4.0"})
    (row,) = compare([ours], [make_launch()])
    assert (row.comparison, row.verdict) == (None, "refused: unequal settings")
    assert row.refused == (
        'environment.versions.torch: "2.4.0" against "2.5.1"',
        "settings.batch: 16 against 8",
        "settings.model.width: not set against 64",
    )


def test_arm_that_changed_between_its_launches_is_refused(make_launch: MakeLaunch) -> None:
    ours = [make_launch("smddp", 0, backend="smddp"), make_launch("smddp", 1, backend="nccl")]
    assert differences(ours, [make_launch("ddp")]) == ['environment.backend: "nccl" and "smddp" against "nccl"']


def test_launches_are_paired_by_index(make_launch: MakeLaunch) -> None:
    baseline = [make_launch("ddp", index, numbers={"a_seconds": 1.0 + index}) for index in range(7)]
    ours = [make_launch("smddp", index, numbers={"a_seconds": 2.0 + 2 * index}) for index in (5, 4, 3, 1, 0, 9)]
    (found,) = compare(ours, baseline)
    assert found.comparison
    assert found.comparison.launches == 5
    assert found.comparison.ratio == pytest.approx(2.0)
    assert (found.ours_median, found.baseline_median) == (8.0, 4.0)


def test_arm_with_a_launch_twice_is_refused(make_launch: MakeLaunch) -> None:
    with pytest.raises(ValueError, match="launch 0 is there twice"):
        compare([make_launch(), make_launch()], [make_launch()])


def test_rates_and_times_are_compared_and_nothing_else(make_launch: MakeLaunch) -> None:
    numbers = {"samples_per_second": 5.0, "startup_seconds": 1.0, "dropped": 3.0}
    launch = make_launch(steps=((1.0, 1.0), (2.0, 2.0)), numbers=numbers)
    assert metrics_of(launch) == {"step_p50_seconds": 2.0, "samples_per_second": 5.0, "startup_seconds": 1.0}


def test_larger_rate_and_shorter_time_are_faster(make_launch: MakeLaunch) -> None:
    def launches(arm: str, rate: float) -> list[Launch]:
        return [
            make_launch(arm, index, numbers={"samples_per_second": rate, "epoch_seconds": 1 / rate})
            for index in range(5)
        ]

    found = compare(launches("smddp", 110.0), launches("ddp", 100.0))
    assert {each.metric: each.verdict for each in found} == {
        "samples_per_second": "faster",
        "epoch_seconds": "faster",
    }


def test_case_needs_one_baseline(make_launch: MakeLaunch) -> None:
    with pytest.raises(ValueError, match="0 baselines among the arms smddp"):
        baseline_of({"smddp": [make_launch("smddp", role="candidate")]})
