"""Two arms against each other; refused unless all that decides a result is equal."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.intervals import Comparison, Verdict, compare_paired
from benchmarks.steps import numbers_of_steps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from benchmarks.samples import Launch

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
_OF_SIZES: dict[Verdict, Verdict] = {"faster": "less", "slower": "more"}


@dataclass(frozen=True)
class Difference:
    """One setting that differs, with the values of both sides; several values where a side differs within itself."""

    key: str
    ours: tuple[str, ...]
    baseline: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key}: {' and '.join(self.ours)} against {' and '.join(self.baseline)}"


class UnequalSettingsError(ValueError):
    """The two sides differ in something that may decide the result."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        self.differences = tuple(differences)
        super().__init__("unequal settings\n" + "\n".join(f"  {each}" for each in self.differences))


@dataclass(frozen=True)
class Compared:
    """One metric of two arms: the medians over the paired launches, and the comparison."""

    metric: str
    ours: float | None
    baseline: float | None
    comparison: Comparison


def decisive(launch: Launch) -> dict[str, str]:
    """All that decides a launch's result: dotted keys, and values as JSON."""
    return dict(_flat({"settings": launch.settings, "environment": asdict(launch.environment)}, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, sort_keys=True)


def differences(
    ours: Sequence[Launch], baseline: Sequence[Launch], may_differ: Collection[str] = BETWEEN_ARMS
) -> list[Difference]:
    """Settings that forbid a comparison.

    Args:
        ours: Launches of one arm.
        baseline: Launches of the other.
        may_differ: Keys or patterns that may differ between the two. Within one side nothing may.
    """
    sides = [[decisive(launch) for launch in side] for side in (ours, baseline)]
    found = []
    for key in sorted({key for side in sides for launch in side for key in launch}):
        seen = [tuple(sorted({launch.get(key, "not set") for launch in side})) for side in sides]
        free = any(fnmatch.fnmatchcase(key, pattern) for pattern in may_differ)
        if any(len(values) > 1 for values in seen) or (seen[0] != seen[1] and not free and all(sides)):
            found.append(Difference(key, *seen))
    return found


def compare(ours: Sequence[Launch], baseline: Sequence[Launch], confidence: float = 0.95) -> list[Compared]:
    """Compare all metrics that every paired launch has; launches without a pair are left out.

    Raises:
        UnequalSettingsError: See `differences`.
        ValueError: An arm has an index twice.
    """
    if unequal := differences(ours, baseline, () if is_again(ours) else BETWEEN_ARMS):
        raise UnequalSettingsError(unequal)
    sides = [_by_index(side) for side in (ours, baseline)]
    indices = sorted(sides[0].keys() & sides[1].keys())
    if not indices:
        return [Compared("-", None, None, compare_paired([], []))]
    metrics = [[metrics_of(side[index]) for index in indices] for side in sides]
    names = [name for name in metrics[0][0] if all(name in launch for side in metrics for launch in side)]
    return [_compared(name, confidence, *([each[name] for each in side] for side in metrics)) for name in names]


def is_again(launches: Sequence[Launch]) -> bool:
    """Whether these are the baseline as an arm of its own."""
    return any(launch.role == "again" for launch in launches)


def metrics_of(launch: Launch) -> dict[str, float]:
    """What is compared: the quantiles of its steps, and its times, rates and sizes.

    A number that is not positive has no ratio; a difference of two times can be that, where noise is larger than it.
    """
    found = numbers_of_steps(launch.steps)[0] if launch.steps else {}
    return found | {name: value for name, value in launch.numbers.items() if name.endswith(COMPARED) and value > 0}


def _compared(name: str, confidence: float, ours: list[float], baseline: list[float]) -> Compared:
    rate = name.endswith("_per_second")
    found = compare_paired(ours, baseline, confidence=confidence, larger_is_better=rate)
    if name.endswith("_bytes"):
        found = replace(found, verdict=_OF_SIZES.get(found.verdict, found.verdict))
    return Compared(name, median(ours), median(baseline), found)


def _by_index(launches: Sequence[Launch]) -> dict[int, Launch]:
    found: dict[int, Launch] = {}
    for launch in launches:
        if launch.index in found:
            raise ValueError(f"{launch.case}, {launch.arm}: launch {launch.index} is there twice; one run per case")
        found[launch.index] = launch
    return found


def by_case(launches: Sequence[Launch]) -> dict[tuple[str, str], dict[str, list[Launch]]]:
    """Launches by (suite, case) and arm, in order of appearance."""
    found: dict[tuple[str, str], dict[str, list[Launch]]] = {}
    for launch in launches:
        found.setdefault((launch.suite, launch.case), {}).setdefault(launch.arm, []).append(launch)
    return found


def baseline_of(arms: Mapping[str, Sequence[Launch]]) -> str:
    """The arm of a case that the others are compared with.

    Raises:
        ValueError: The case has none, or several.
    """
    names = [arm for arm, launches in arms.items() if any(launch.role == "baseline" for launch in launches)]
    if len(names) != 1:
        raise ValueError(f"{len(names)} baselines among the arms {', '.join(arms)}: one is needed")
    return names[0]
