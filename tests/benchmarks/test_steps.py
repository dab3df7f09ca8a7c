from __future__ import annotations

import numpy as np
import pytest

from benchmarks.steps import after_warm_up, slowest_rank, step_quantiles, warm_up_length


def _steady(count: int, noise: float = 0.01) -> list[float]:
    steps: list[float] = (0.1 * np.random.default_rng(2).lognormal(0, noise, size=count)).tolist()
    return steps


def test_slowest_rank_counts_per_step() -> None:
    assert slowest_rank([[1, 5, 2], [3, 1, 2]]).tolist() == [3, 5, 2]


@pytest.mark.parametrize("ranks", [[], [[]], [[1.0], [1.0, 2.0]]])
def test_ranks_with_unequal_or_no_steps_are_refused(ranks: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="the same steps"):
        slowest_rank(ranks)


def test_steady_steps_need_no_warm_up() -> None:
    assert warm_up_length(_steady(200)) == 0


@pytest.mark.parametrize("slow", [1, 3, 15, 40])
def test_slow_start_is_dropped(slow: int) -> None:
    dropped = warm_up_length([0.3] * slow + _steady(200))
    assert dropped == slow


def test_falling_start_is_dropped_until_it_is_within_2_percent() -> None:
    trace = [0.1 * (1 + 0.5 * 0.9**step) for step in range(200)]
    dropped = warm_up_length(trace)
    # The window's median, some 5 steps later, is the first below 0.102: 0.5 * 0.9**31 = 0.019.
    assert 25 <= dropped <= 27


def test_endless_warm_up_is_capped() -> None:
    assert warm_up_length(np.linspace(2, 1, 100)) == 50
    assert warm_up_length(np.linspace(2, 1, 100), cap=0.2) == 20


def test_short_runs_keep_at_least_half() -> None:
    assert warm_up_length([1.0]) == 0
    assert warm_up_length([5.0, 1.0, 1.0, 1.0]) <= 2


def test_quantiles_of_a_known_distribution() -> None:
    found = step_quantiles(np.random.default_rng(1).exponential(size=20_000))
    assert found["step_p50_seconds"] == pytest.approx(np.log(2), rel=0.05)
    assert found["step_p95_seconds"] == pytest.approx(np.log(20), rel=0.05)
    assert found["step_p99_seconds"] == pytest.approx(np.log(100), rel=0.05)


@pytest.mark.parametrize(("steps", "names"), [(19, {"50"}), (20, {"50", "95"}), (100, {"50", "95", "99"})])
def test_quantiles_that_few_steps_cannot_tell_are_left_out(steps: int, names: set[str]) -> None:
    assert {name[6:8] for name in step_quantiles([1.0] * steps)} == names


def test_numbers_are_of_the_slowest_rank_after_the_warm_up() -> None:
    kept = after_warm_up([[9.0] * 5 + [1.0] * 95, [9.0] * 5 + [2.0] * 95])
    assert kept.tolist() == [2.0] * 95
