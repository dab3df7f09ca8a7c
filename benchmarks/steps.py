"""From the steps of one launch to its numbers: slowest rank, warm-up, quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A quantile needs so many steps that at least one lies beyond it; else it is the largest step under another name.
QUANTILES = {"step_p50_seconds": (0.50, 1), "step_p95_seconds": (0.95, 20), "step_p99_seconds": (0.99, 100)}


# A first step that takes so many times the median is start-up (allocation, compilation), not noise.
SLOW_START = 1.5


def slowest_rank(ranks: Sequence[Sequence[float]]) -> NDArray[Any]:
    """Seconds of each step on the rank that took longest: the others wait for it.

    Raises:
        ValueError: There are no steps, or the ranks did not take equally many.
    """
    lengths = sorted({len(steps) for steps in ranks})
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(f"ranks with {lengths or 'no'} steps: every rank must have taken the same steps")
    slowest: NDArray[Any] = np.asarray(ranks, dtype=float).max(axis=0)
    return slowest


def warm_up_length(
    steps: Sequence[float] | NDArray[Any], *, window: int = 10, tolerance: float = 0.02, cap: float = 0.5
) -> int:
    """How many leading steps to drop, until a window's median is within the tolerance of what follows the window.

    Args:
        steps: Seconds, in order.
        window: Steps in the rolling median.
        tolerance: Relative difference that counts as stable.
        cap: Largest share of the steps to drop. A result that reaches it says that no stable part was found.
    """
    seconds = np.asarray(steps, dtype=float)
    most = int(cap * len(seconds))
    for dropped in range(most):
        now, later = seconds[dropped : dropped + window], seconds[dropped + window :]
        if not len(later):
            break
        expected = np.median(later)
        if abs(np.median(now) - expected) <= tolerance * expected and _settled(now, expected):
            return dropped
    return most


def _settled(window: NDArray[Any], expected: float) -> bool:
    # A median does not see one slow first step, which then would be the tail that p99 reports.
    return bool(window[0] <= SLOW_START * expected)


def step_quantiles(steps: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    """p50, p95 and p99 of the kept steps; those that so few steps cannot tell are left out."""
    seconds = np.asarray(steps, dtype=float)
    return {
        name: float(np.quantile(seconds, quantile))
        for name, (quantile, fewest) in QUANTILES.items()
        if len(seconds) >= fewest
    }


def numbers_of_steps(ranks: Sequence[Sequence[float]]) -> tuple[dict[str, float], int]:
    """The quantiles of one launch after its warm-up, and how many steps were dropped for that."""
    seconds = slowest_rank(ranks)
    dropped = warm_up_length(seconds)
    return step_quantiles(seconds[dropped:]), dropped
