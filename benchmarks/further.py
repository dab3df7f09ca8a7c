"""Numbers beside the comparison of arms: those without a ratio, and how step times grow with the world."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.compare import COMPARED, by_case, metrics_of
from benchmarks.intervals import Comparison, compare_paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.samples import Launch

STEP = "step_p50_seconds"


class Kept(NamedTuple):
    """A number that is not compared: its median over the launches of an arm."""

    suite: str
    case: str
    arm: str
    number: str
    median: float
    launches: int


class Scaling(NamedTuple):
    """Weak scaling: step time of the smallest world / step time of this one, at equal work for each device."""

    suite: str
    what: str
    arm: str
    smallest: int
    world_size: int
    efficiency: Comparison


def kept(launches: Sequence[Launch]) -> list[Kept]:
    """All such numbers, in order of appearance; exposed communication is one."""
    found = []
    for (suite, case), arms in by_case(launches).items():
        for arm, own in arms.items():
            names = dict.fromkeys(name for launch in own for name in launch.numbers if not name.endswith(COMPARED))
            for name in names:
                values = [launch.numbers[name] for launch in own if name in launch.numbers]
                found.append(Kept(suite, case, arm, name, median(values), len(values)))
    return found


def scaling(launches: Sequence[Launch]) -> list[Scaling]:
    """For each model and arm that was measured in several worlds by the same settings."""
    worlds: dict[tuple[str, str, str], dict[int, dict[int, float]]] = {}
    for launch in launches:
        step, model = metrics_of(launch).get(STEP), launch.settings.get("model")
        if step is not None and model is not None and launch.role != "again":
            sizes = worlds.setdefault((launch.suite, str(model), launch.arm), {})
            sizes.setdefault(int(launch.settings["world_size"]), {})[launch.index] = step
    found = []
    for (suite, model, arm), sizes in worlds.items():
        smallest = min(sizes)
        for size in sorted(sizes.keys() - {smallest}):
            indices = sorted(sizes[smallest].keys() & sizes[size].keys())
            before, after = ([sizes[which][index] for index in indices] for which in (smallest, size))
            found.append(Scaling(suite, model, arm, smallest, size, compare_paired(before, after)))
    return found
