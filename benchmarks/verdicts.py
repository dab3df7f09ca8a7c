"""The rows of a report: one per case, arm and metric, and whether each suite is fit for use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.compare import UnequalSettingsError, baseline_of, by_case, compare, is_again
from benchmarks.intervals import Comparison, fit_for_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.samples import Launch

Pair = tuple[str, "Sequence[Launch]", "Sequence[Launch]"]  # case, the A/A arm, its baseline
UNFIT = "none: the suite is unfit"


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    case: str
    ours: str  # name of the arm
    baseline: str  # name of the arm that it is compared with
    again: bool  # whether this is an A/A row
    labels: tuple[str, ...]  # "fake SMDDP" and others, of either arm
    metric: str = "-"
    ours_median: float | None = None  # over the paired launches
    baseline_median: float | None = None
    comparison: Comparison | None = None  # None where it was refused
    verdict: str = "refused: unequal settings"  # the comparison's, unless the suite is unfit
    refused: tuple[str, ...] = ()  # why there is no comparison, line by line


@dataclass(frozen=True)
class Suite:
    """Rows of one suite, A/A first; `unfit` says why its numbers must not be used, and is empty if they may."""

    name: str
    rows: tuple[Row, ...]
    unfit: tuple[str, ...]


def judge(launches: Sequence[Launch]) -> list[Suite]:
    """All suites of a run, in order of appearance.

    Raises:
        ValueError: A case has not exactly one baseline, or an arm has a launch twice.
    """
    rows: dict[str, list[Row]] = {}
    same: dict[str, list[Pair]] = {}
    for (suite, case), arms in by_case(launches).items():
        base = baseline_of(arms)
        found, pairs = rows.setdefault(suite, []), same.setdefault(suite, [])
        for arm, own in arms.items():
            if arm != base:
                found.extend(_rows(case, own, arms[base]))
                if is_again(own):
                    pairs.append((case, own, arms[base]))
    return [_suite(name, sorted(found, key=lambda row: not row.again), same[name]) for name, found in rows.items()]


def _rows(case: str, ours: Sequence[Launch], baseline: Sequence[Launch]) -> list[Row]:
    labels = tuple(dict.fromkeys(label for launch in (*ours, *baseline) for label in launch.all_labels))
    row = Row(case, ours[0].arm, baseline[0].arm, is_again(ours), labels)
    try:
        compared = compare(ours, baseline)
    except UnequalSettingsError as refusal:
        return [replace(row, refused=tuple(map(str, refusal.differences)))]
    return [
        replace(
            row,
            metric=each.metric,
            ours_median=each.ours,
            baseline_median=each.baseline,
            comparison=each.comparison,
            verdict=each.comparison.verdict,
        )
        for each in compared
    ]


def _suite(name: str, rows: list[Row], same: Sequence[Pair]) -> Suite:
    unfit = tuple(_unfit(same, sum(row.again and row.comparison is not None for row in rows)))
    if unfit:  # rows without a ratio say already that they say nothing
        rows = [
            replace(row, verdict=UNFIT) if row.comparison and row.comparison.ratio is not None else row for row in rows
        ]
    return Suite(name, tuple(rows), unfit)


def _unfit(same: Sequence[Pair], checks: int) -> list[str]:
    """Why a suite must not be used.

    All A/A intervals are judged together (Bonferroni): with n of them, each is taken at a confidence of 1 - 5 % / n,
    so a sound harness is called unfit in at most 5 % of the cases, however many numbers it measures.
    """
    reasons = [] if same else ["it has no A/A run"]
    for case, again, baseline in same:
        try:
            compared = compare(again, baseline, 1 - 0.05 / max(1, checks))
        except UnequalSettingsError:
            reasons.append(f"A/A {case}: refused: unequal settings")
            continue
        for each in compared:
            if each.comparison.ratio is None:
                reasons.append(f"A/A: not enough runs ({each.comparison.launches} launches)")
            elif not fit_for_use(each.comparison):
                ends = f"[{each.comparison.low:.4f}, {each.comparison.high:.4f}]"
                reasons.append(f"A/A {case}, {each.metric}: the interval {ends} does not cover 1.0")
    return list(dict.fromkeys(reasons))
