"""What the tests of this folder share: the ranks, and what is tried with process groups."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
from facts import NEEDS, facts
from ranks import Ranks, find_job
from trials import NOT_REACHED, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    Gather = Callable[[Callable[[], Any]], dict[str, Any]]
    Trial = Callable[[str, str], dict[str, str]]

_RANKS = pytest.StashKey[Ranks]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--limit", type=float, default=60.0, help="seconds for one operation of a process group")


def pytest_configure(config: pytest.Config) -> None:
    """Meet the other ranks."""
    config.stash[_RANKS] = Ranks(find_job(), config.getoption("limit"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let them go."""
    config.stash[_RANKS].leave()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What the job is, and what is in its image."""
    return [f"{name}: {value}" for name, value in facts(config.stash[_RANKS]).items()]


@pytest.fixture(scope="session")
def ranks(pytestconfig: pytest.Config) -> Ranks:
    """All ranks of the job."""
    return pytestconfig.stash[_RANKS]


@pytest.fixture(scope="session", autouse=True)
def _say_facts(ranks: Ranks, record_testsuite_property: Callable[[str, object], None]) -> None:
    for name, value in facts(ranks).items():
        record_testsuite_property(name, value)


@pytest.fixture(scope="session")
def _has(ranks: Ranks) -> dict[str, dict[str, bool]]:
    """What each rank has: all skip the same tests."""
    return ranks.gather("needs", lambda: {what: has(ranks) for what, has in NEEDS.items()})


@pytest.fixture(autouse=True)
def _skip(request: pytest.FixtureRequest, _has: dict[str, dict[str, bool]]) -> None:
    wanted = [what for mark in request.node.iter_markers("needs") for what in mark.args]
    if missing := [what for what in wanted if not all(has[what] for has in _has.values())]:
        pytest.skip(f"needs {missing[0]}")


@pytest.fixture
def gather(ranks: Ranks, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Gather:
    """Ask all ranks; what each sees stands in the report too."""

    def gather(look: Callable[[], Any]) -> dict[str, Any]:
        seen = ranks.gather(request.node.name, look)
        record_property("seen", json.dumps(seen))
        return seen

    return gather


@pytest.fixture(scope="session")
def _outcomes(ranks: Ranks) -> Callable[[str], dict[str, dict[str, str]]]:
    return functools.cache(lambda name: outcomes(ranks, name))


@pytest.fixture
def trial(
    ranks: Ranks,
    _outcomes: Callable[[str], dict[str, dict[str, str]]],
    record_property: Callable[[str, object], None],
) -> Trial:
    """What came of an operation of a trial, by rank; the trial is made when it is first asked for."""

    def outcome(name: str, operation: str) -> dict[str, str]:
        if ranks.problem:
            pytest.skip("needs ranks that reach each other")
        found = _outcomes(name)[operation]
        record_property("seen", json.dumps(found))
        if unknown := [text for text in found.values() if text.startswith(NOT_REACHED)]:
            pytest.skip(unknown[0])
        return found

    return outcome
