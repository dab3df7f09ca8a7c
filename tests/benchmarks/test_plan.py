from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import benchmarks.plan
from benchmarks.compare import BETWEEN_ARMS
from benchmarks.plan import Planned, World, plan

SUITES = ("training", "logging", "self-check", "collectives")
WORLDS = [
    World(1, 1, "none"),
    World(1, 2, "torchrun"),
    World(2, 8, "torchrun", gpu=True),
    World(2, 8, "mpirun", gpu=True),
]
every_suite = pytest.mark.parametrize("suite", SUITES)
every_world = pytest.mark.parametrize("world", WORLDS, ids=str)
every_scale = pytest.mark.parametrize("full", [False, True], ids=["quick", "full"])


def case_of(planned: Planned) -> tuple[object, object]:
    return planned.settings.get("model"), planned.settings.get("metrics")


@every_suite
@every_world
@every_scale
def test_every_process_makes_the_same_plan(suite: str, world: World, full: bool) -> None:
    first, second = (plan(suite, world, full=full, launches=3) for _ in range(2))
    assert [each.to_json() for each in first] == [each.to_json() for each in second]


@every_suite
def test_every_worker_is_a_program(suite: str) -> None:
    workers = Path(benchmarks.plan.__file__).parent / "workers"
    for each in plan(suite, WORLDS[1], full=True, launches=1):
        assert "def measure(" in (workers / f"{each.worker}.py").read_text()


@every_suite
@every_world
@every_scale
def test_all_arms_of_a_case_get_as_many_launches(suite: str, world: World, full: bool) -> None:
    made = plan(suite, world, full=full, launches=4)
    cases = Counter((case_of(each), each.arm) for each in made)
    assert set(cases.values()) == {4}
    assert len(made) == 4 * len(cases)


@every_suite
def test_arms_take_turns_in_going_first(suite: str) -> None:
    made = [each for each in plan(suite, World(1, 2, "torchrun"), full=False, launches=2) if "again" not in each.arm]
    case = [each for each in made if case_of(each) == case_of(made[0])]
    half = len(case) // 2
    assert [each.arm for each in case[:half]] == [each.arm for each in reversed(case[half:])]


@every_suite
@every_scale
def test_a_suite_has_one_baseline_a_case_and_an_a_a_run(suite: str, full: bool) -> None:
    made = plan(suite, World(1, 2, "torchrun"), full=full, launches=1)
    baselines = Counter(case_of(each) for each in made if each.role == "baseline")
    assert set(baselines.values()) == {1}
    again = [each for each in made if each.role == "again"]
    assert again
    for each in again:
        (baseline,) = (other for other in made if other.role == "baseline" and case_of(other) == case_of(each))
        assert (each.settings, each.environ) == (baseline.settings, baseline.environ)


@every_suite
@every_world
@every_scale
def test_arms_differ_only_in_what_makes_them_arms(suite: str, world: World, full: bool) -> None:
    free = {key.removeprefix("settings.") for key in BETWEEN_ARMS}
    fixed = {
        (
            case_of(each),
            tuple(sorted((key, value) for key, value in each.settings.items() if key not in free)),
        )
        for each in plan(suite, world, full=full, launches=1)
    }
    assert len(fixed) == len({case for case, _ in fixed})


def test_stock_serves_the_baseline_where_it_can_start_at_all() -> None:
    def native(launcher: str) -> tuple[object, object]:
        (found,) = (
            each for each in plan("logging", World(2, 8, launcher), full=False, launches=1) if each.arm == "native"
        )
        return found.settings["plugin"], found.environ.get("LIGHTNING_SAGEMAKER_AUTOLOAD")

    assert native("torchrun") == ("off", "0")
    assert native("mpirun") == ("on", None)


def test_an_unknown_suite_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="suite 'speed': expected one of training, logging, collectives, self-check"):
        plan("speed", World(1, 2, "torchrun"), full=False, launches=1)
