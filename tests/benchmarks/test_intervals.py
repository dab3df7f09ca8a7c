from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.intervals import Comparison, compare_paired, fit_for_use, mean_interval

MANY = 2000  # simulated comparisons


def _bounds(share: float) -> tuple[float, float]:
    """What MANY simulated comparisons show with a probability of 99.9 %, if the share is the truth."""
    low, high = stats.binom.interval(0.999, MANY, share)
    return low / MANY, high / MANY


@pytest.mark.parametrize("launches", [5, 8, 12, 20])
def test_interval_covers_the_known_ratio_of_lognormal_launches(launches: int) -> None:
    random = np.random.default_rng(launches)
    truth = math.log(0.9)
    ours = np.log(random.lognormal(truth, 0.02, size=(MANY, launches)))
    baseline = np.log(random.lognormal(0, 0.02, size=(MANY, launches)))
    low, high = mean_interval(ours - baseline, resamples=999)
    covered = np.mean((low <= truth) & (truth <= high))
    # 0.94 is what the module's text says; nominal 0.95 is the other end.
    assert _bounds(0.94)[0] <= covered <= _bounds(0.95)[1]


@pytest.mark.parametrize("launches", [5, 8, 20])
def test_interval_covers_with_heavy_tails(launches: int) -> None:
    logs = np.random.default_rng(launches).standard_t(3, size=(MANY, launches)) * 0.02
    low, high = mean_interval(logs, resamples=999)
    assert np.mean((low <= 0) & (high >= 0)) >= _bounds(0.94)[0]


def test_same_arm_twice_differs_in_about_5_percent() -> None:
    random = np.random.default_rng(3)
    ours, baseline = (0.1 * random.lognormal(0, 0.015, size=(MANY, 8)) for _ in "AA")
    verdicts = [compare_paired(*pair).verdict for pair in zip(ours, baseline, strict=True)]
    wrong = sum(verdict in ("faster", "slower") for verdict in verdicts) / MANY
    # The module's text says 94.5 % coverage for 8 launches.
    assert _bounds(0.05)[0] <= wrong <= _bounds(0.055)[1]


def _found(slowdown: float, noise: float, launches: int, rounds: int = 200) -> float:
    """Share of runs that show a difference in the right direction."""
    random = np.random.default_rng(5)
    found = 0
    for _ in range(rounds):
        baseline = 0.1 * random.lognormal(0, noise, size=launches)
        ours = 0.1 * (1 + slowdown) * random.lognormal(0, noise, size=launches)
        found += compare_paired(ours, baseline, resamples=499).verdict == "slower"
    return found / rounds


def test_seeded_slowdown_is_found() -> None:
    assert _found(0.05, 0.01, 8) == 1.0
    assert _found(0.05, 0.02, 12) >= 0.98


def test_no_slowdown_is_not_found() -> None:
    assert _found(0.0, 0.02, 8) <= 0.06  # one-sided: 2.5 % is expected


def test_pairs_cancel_what_both_arms_share() -> None:
    drift = np.linspace(1, 2, 8)
    ours = 0.95 * drift * np.random.default_rng(1).lognormal(0, 0.005, size=8)
    found = compare_paired(ours, drift)
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(0.95, abs=0.01)


def test_larger_rates_are_faster() -> None:
    baseline = [100.0, 101.0, 99.0, 100.5, 100.2]
    ours = [110.0, 111.5, 109.0, 110.1, 110.7]
    assert compare_paired(ours, baseline, larger_is_better=True).verdict == "faster"
    assert compare_paired(baseline, ours, larger_is_better=True).verdict == "slower"
    assert compare_paired(ours, baseline).verdict == "slower"


def test_the_same_samples_give_the_same_interval() -> None:
    ours, baseline = [1.0, 1.1, 1.05, 0.98, 1.02], [1.0, 1.02, 1.01, 0.97, 1.03]
    assert compare_paired(ours, baseline) == compare_paired(ours, baseline)
    assert compare_paired(ours, baseline) != compare_paired(ours, baseline, seed=1)


def test_few_launches_give_no_numbers() -> None:
    assert compare_paired([1.0] * 4, [2.0] * 4) == Comparison(4, None, None, None, "not enough runs")


def test_equal_launches_have_an_interval_of_no_width() -> None:
    assert compare_paired([1.0] * 5, [1.0] * 5) == Comparison(5, 1.0, 1.0, 1.0, "no difference shown")


@pytest.mark.parametrize(
    ("ours", "baseline", "says"),
    [([1.0], [1.0, 2.0], "its pair"), ([0.0], [1.0], "positive"), ([1.0], [math.nan], "finite")],
)
def test_bad_samples_are_refused(ours: list[float], baseline: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        compare_paired(ours, baseline)


@pytest.mark.parametrize(
    ("low", "high", "fit"), [(0.99, 1.01, True), (1.0, 1.01, True), (1.001, 1.01, False), (None, None, False)]
)
def test_fitness_is_covering_1(low: float | None, high: float | None, fit: bool) -> None:
    assert fit_for_use(Comparison(8, low, low, high, "no difference shown")) is fit
