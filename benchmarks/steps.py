"""From the steps of one launch to its numbers: slowest rank, warm-up, quantiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A quantile needs so many steps that at least one lies beyond it; else it is the largest step under another name.
QUANTILES = {"step_p50_seconds": (0.50, 1), "step_p95_seconds": (0.95, 20), "step_p99_seconds": (0.99, 100)}
WINDOW = 10  # steps in the rolling median
TOLERANCE = 0.02  # its relative difference from what follows that counts as stable
# A first step that takes so many times the median is start-up (allocation, compilation), not noise. A median does not
# see it, and it would be the tail that p99 reports.
SLOW_START = 1.5


def slowest_rank(ranks: Sequence[Sequence[float]]) -> NDArray[Any]:
    """Seconds of each step on the rank that took longest, as the others wait for it; ValueError if steps lack."""
    lengths = sorted({len(steps) for steps in ranks})
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(f"ranks with {lengths or 'no'} steps: every rank must have taken the same steps")
    slowest: NDArray[Any] = np.asarray(ranks, dtype=float).max(axis=0)
    return slowest


def warm_up_length(steps: Sequence[float] | NDArray[Any], *, cap: float = 0.5) -> int:
    """How many leading steps to drop, until a window's median is within the tolerance of what follows the window.

    At most the share `cap` of all; a result that reaches it says that no stable part was found.
    """
    seconds = np.asarray(steps, dtype=float)
    most = int(cap * len(seconds))
    for dropped in range(min(most, len(seconds) - WINDOW)):
        now, expected = seconds[dropped : dropped + WINDOW], np.median(seconds[dropped + WINDOW :])
        if abs(np.median(now) - expected) <= TOLERANCE * expected and now[0] <= SLOW_START * expected:
            return dropped
    return most


def after_warm_up(ranks: Sequence[Sequence[float]]) -> NDArray[Any]:
    """Steps of the slowest rank without the warm-up."""
    seconds = slowest_rank(ranks)
    return seconds[warm_up_length(seconds) :]


def step_quantiles(steps: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    """p50, p95 and p99 of steps; those that so few cannot tell are left out."""
    return {
        name: float(np.quantile(steps, quantile))
        for name, (quantile, fewest) in QUANTILES.items()
        if len(steps) >= fewest
    }
