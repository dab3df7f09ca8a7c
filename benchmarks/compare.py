"""Arms against each other: the rows of a report, refused unless all that decides a result is equal.

And whether each suite is fit for use: all its A/A intervals are judged together (Bonferroni). With n of them, each is
taken at a confidence of 1 - 5 % / n, so a sound harness is called unfit in at most 5 % of the cases, however many
numbers it measures.
"""

import fnmatch
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, NamedTuple

from benchmarks.intervals import Comparison, compare_paired, fit_for_use
from benchmarks.samples import Launch
from benchmarks.steps import after_warm_up, step_quantiles

# What being another arm means. An A/A run's arms may differ in nothing.
BETWEEN_ARMS = (
    "settings.strategy",
    "settings.plugin",
    "settings.backend",
    "settings.gradient_as_bucket_view",
    "settings.slowdown",
    "environment.backend",
    "environment.fake_smddp",
    "environment.variables.SMDATAPARALLEL_*",
    "environment.versions.smdistributed-dataparallel",
)
COMPARED = ("_seconds", "_per_second", "_bytes")  # how names of numbers end that are compared
_OF_SIZES = {"faster": "less", "slower": "more"}
UNFIT = "none: the suite is unfit"


class Row(NamedTuple):
    """One line of the report: a metric of two arms, over their paired launches."""

    case: str
    ours: str  # name of the arm
    baseline: str  # name of the arm that it is compared with
    again: bool  # whether this is an A/A row
    labels: tuple[str, ...]  # "fake SMDDP" and others, of either arm
    metric: str = "-"
    ours_median: float | None = None
    baseline_median: float | None = None
    comparison: Comparison | None = None  # None where it was refused
    verdict: str = "refused: unequal settings"  # the comparison's, unless the suite is unfit
    refused: tuple[str, ...] = ()  # why there is no comparison, line by line


class Suite(NamedTuple):
    """Rows of one suite, A/A first; `unfit` says why its numbers must not be used, and is empty if they may."""

    name: str
    rows: tuple[Row, ...]
    unfit: tuple[str, ...]


def judge(launches: Sequence[Launch]) -> list[Suite]:
    """All suites of a run, in order of appearance; ValueError where a case has not exactly one baseline."""
    suites: dict[str, list[tuple[Sequence[Launch], Sequence[Launch]]]] = {}
    for (suite, _), arms in by_case(launches).items():
        base = baseline_of(arms)
        suites.setdefault(suite, []).extend((own, arms[base]) for arm, own in arms.items() if arm != base)
    return [_judged(name, pairs) for name, pairs in suites.items()]


def _judged(name: str, pairs: Sequence[tuple[Sequence[Launch], Sequence[Launch]]]) -> Suite:
    rows = sorted((row for pair in pairs for row in compare(*pair)), key=lambda row: not row.again)
    confidence = 1 - 0.05 / max(1, sum(row.again and row.comparison is not None for row in rows))
    same = [row for ours, baseline in pairs if is_again(ours) for row in compare(ours, baseline, confidence)]
    reasons = [] if same else ["it has no A/A run"]
    for row in same:
        if (found := row.comparison) is None:
            reasons.append(f"A/A {row.case}: {row.verdict}")
        elif found.ratio is None:
            reasons.append(f"A/A: not enough runs ({found.launches} launches)")
        elif not fit_for_use(found):
            ends = f"[{found.low:.4f}, {found.high:.4f}]"
            reasons.append(f"A/A {row.case}, {row.metric}: the interval {ends} does not cover 1.0")
    if reasons:  # rows without a ratio say already that they say nothing
        rows = [row._replace(verdict=UNFIT) if row.comparison and row.comparison.ratio else row for row in rows]
    return Suite(name, tuple(rows), tuple(dict.fromkeys(reasons)))


def compare(ours: Sequence[Launch], baseline: Sequence[Launch], confidence: float = 0.95) -> list[Row]:
    """Rows of all metrics that every paired launch has; launches without a pair are left out.

    ValueError where an arm has an index twice.
    """
    again = is_again(ours)
    labels = dict.fromkeys(label for launch in (*ours, *baseline) for label in launch.all_labels)
    about = (ours[0].case, ours[0].arm, baseline[0].arm, again, tuple(labels))
    if unequal := differences(ours, baseline, () if again else BETWEEN_ARMS):
        return [Row(*about, refused=tuple(unequal))]
    sides = [_by_index(side) for side in (ours, baseline)]
    indices = sorted(sides[0].keys() & sides[1].keys())
    if not indices:
        found = compare_paired([], [])
        return [Row(*about, comparison=found, verdict=found.verdict)]
    metrics = [[metrics_of(side[index]) for index in indices] for side in sides]
    rows = []
    for name in metrics[0][0]:
        if all(name in launch for side in metrics for launch in side):
            mine, other = ([each[name] for each in side] for side in metrics)
            rate = name.endswith("_per_second")
            found = compare_paired(mine, other, confidence=confidence, larger_is_better=rate)
            verdict = _OF_SIZES.get(found.verdict, found.verdict) if name.endswith("_bytes") else found.verdict
            rows.append(Row(*about, name, median(mine), median(other), found, verdict))
    return rows


def differences(
    ours: Sequence[Launch], baseline: Sequence[Launch], may_differ: Collection[str] = BETWEEN_ARMS
) -> list[str]:
    """Settings that forbid a comparison, with the values of both sides; within one side nothing may differ."""
    sides = [[decisive(launch) for launch in side] for side in (ours, baseline)]
    found = []
    for key in sorted({key for side in sides for launch in side for key in launch}):
        mine, other = (sorted({launch.get(key, "not set") for launch in side}) for side in sides)
        free = any(fnmatch.fnmatchcase(key, pattern) for pattern in may_differ)
        if len(mine) > 1 or len(other) > 1 or (mine != other and not free):
            found.append(f"{key}: {' and '.join(mine)} against {' and '.join(other)}")
    return found


def decisive(launch: Launch) -> dict[str, str]:
    """All that decides a launch's result: dotted keys, and values as JSON."""
    return dict(_flat({"settings": launch.settings, "environment": asdict(launch.environment)}, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, sort_keys=True)


def metrics_of(launch: Launch) -> dict[str, float]:
    """What is compared: the quantiles of its steps, and its times, rates and sizes.

    A number that is not positive has no ratio; a difference of two times can be that, where noise is larger than it.
    """
    found = step_quantiles(after_warm_up(launch.steps)) if launch.steps else {}
    return found | {name: value for name, value in launch.numbers.items() if name.endswith(COMPARED) and value > 0}


def _by_index(launches: Sequence[Launch]) -> dict[int, Launch]:
    found: dict[int, Launch] = {}
    for launch in launches:
        if launch.index in found:
            raise ValueError(f"{launch.case}, {launch.arm}: launch {launch.index} is there twice; one run per case")
        found[launch.index] = launch
    return found


def is_again(launches: Sequence[Launch]) -> bool:
    """Whether these are the baseline as an arm of its own."""
    return any(launch.role == "again" for launch in launches)


def by_case(launches: Sequence[Launch]) -> dict[tuple[str, str], dict[str, list[Launch]]]:
    """Launches by (suite, case) and arm, in order of appearance."""
    found: dict[tuple[str, str], dict[str, list[Launch]]] = {}
    for launch in launches:
        found.setdefault((launch.suite, launch.case), {}).setdefault(launch.arm, []).append(launch)
    return found


def baseline_of(arms: Mapping[str, Sequence[Launch]]) -> str:
    """The arm of a case that the others are compared with; ValueError if the case has none, or several."""
    names = [arm for arm, launches in arms.items() if any(launch.role == "baseline" for launch in launches)]
    if len(names) != 1:
        raise ValueError(f"{len(names)} baselines among the arms {', '.join(arms)}: one is needed")
    return names[0]
