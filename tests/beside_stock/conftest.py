"""Each job is launched once in each arm, and the tests of a job run in one worker."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, cast

import pytest

from tests.beside_stock.records import Launch
from tests.beside_stock.registry import STOCK, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.beside_stock.registry import Situation


@pytest.fixture(scope="session")
def launch(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Launch]]:
    """Launches a job in an arm, once, with the situations that tests ask for; removes in the end what it has left."""
    done: dict[tuple[str, str], Launch] = {}
    asked = {
        (cast("Situation", item.callspec.params["situation"]).name, arm)
        for item in request.session.items
        if isinstance(item, pytest.Function) and "launch" in item.fixturenames
        for arm in (STOCK, item.callspec.params["arm"])
    }

    def launch(job: str, arm: str) -> Launch:
        if (job, arm) not in done:
            wanted = [s for s in load().values() if s.job == job and (s.name, arm) in asked]
            done[job, arm] = Launch(job, arm, wanted, tmp_path_factory.mktemp(f"{job}-{arm}"))
        return done[job, arm]

    yield launch
    for launched in done.values():
        shutil.rmtree(launched.out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: how many situations, comparisons and allowed differences, and how long they took."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    properties = [dict(report.user_properties) for report in reports]
    compared = [found for found in properties if "situation" in found]
    if compared:
        launches: dict[str, float] = {}
        for found in compared:
            launches |= cast("dict[str, float]", found["launches"])
        allowed = {f"{found['situation']}: {row}" for found in compared for row in str(found["rows"]).split()}
        terminalreporter.write_line(
            f"beside stock: {len({found['situation'] for found in compared})} situations, {len(compared)} comparisons,"
            f" {len(allowed)} allowed differences ({len({name.split(': ')[1] for name in allowed})} rows),"
            f" {sum(launches.values()):.0f} s in {len(launches)} launches"
        )
