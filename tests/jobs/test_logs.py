"""What the hosts of a job have written."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from .service import DENIED, NOON, World, Written, described

pytestmark = pytest.mark.xdist_group("jobs")

MS = NOON * 1000
HOUR = 3_600_000


@pytest.fixture
def two_hosts(world: World) -> World:
    """A job of two hosts, the second one started twice, and another job whose name begins alike."""
    world.add(described("digits"), described("digits-2"))
    world.streams = {
        "digits/algo-1-1780": [Written(MS + 10 * number, f"one {number}") for number in range(5)],
        "digits/algo-2-1780": [Written(MS + 10 * number + 5, f"two {number}") for number in range(3)],
        "digits/algo-2-1790": [Written(MS + HOUR, "two again")],
        "digits-2/algo-1-1780": [Written(MS, "of the other job")],
    }
    return world


MERGED = [
    *("[algo-1] one 0", "[algo-2] two 0", "[algo-1] one 1", "[algo-2] two 1", "[algo-1] one 2", "[algo-2] two 2"),
    *("[algo-1] one 3", "[algo-1] one 4", "[algo-2] two again"),
]


@pytest.mark.parametrize("silent", [False, True])
def test_lines_of_all_hosts_come_by_time_with_their_hosts_over_all_pages(
    two_hosts: World, jobs: Any, silent: bool
) -> None:
    two_hosts.silent = silent  # an answer without lines is not the end
    run = jobs("logs", "digits")
    assert (run.code, run.err) == (0, "")
    assert run.out.splitlines() == MERGED


def test_one_host_alone_needs_no_name_before_its_lines(two_hosts: World, jobs: Any) -> None:
    assert jobs("logs", "digits", "--host", "algo-2").out.splitlines() == ["two 0", "two 1", "two 2", "two again"]
    two_hosts.add(described("digits", ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}))
    assert jobs("logs", "digits").out.splitlines()[0] == "one 0"


def test_a_host_that_the_job_has_not_is_an_error(two_hosts: World, jobs: Any) -> None:
    run = jobs("logs", "digits", "--host", "algo-3")
    assert run.code == 2
    assert "error: Host 'algo-3' is none of digits; expected algo-1 to algo-2." in run.err
    assert two_hosts.times("DescribeLogStreams") == 0


@pytest.mark.parametrize("count", [1, 3, 4, 8, 100])
def test_tail_shows_the_last_lines_of_all_hosts(two_hosts: World, jobs: Any, count: int) -> None:
    assert jobs("logs", "digits", "--tail", count).out.splitlines() == MERGED[-count:]
    assert not any(body["startFromHead"] for name, body in two_hosts.asked if name == "GetLogEvents")


@pytest.mark.usefixtures("two_hosts")
def test_since_leaves_out_what_was_written_before(jobs: Any) -> None:
    moment = datetime.fromtimestamp(NOON + 1, timezone.utc)
    for text in (moment.isoformat(), moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%dT%H:%M:%S")):
        assert jobs("logs", "digits", "--since", text).out.splitlines() == ["[algo-2] two again"]


def test_since_counts_back_from_now(world: World, jobs: Any) -> None:
    now = int(datetime.now(timezone.utc).timestamp() * 1000)
    world.add(described("digits"))
    ages = {"31 s": 31_000, "29 min": 29 * 60_000, "3 h": 3 * HOUR, "2 d": 48 * HOUR}
    lines = sorted(Written(now - age, text) for text, age in ages.items())
    world.streams = {"digits/algo-1-1780": lines}
    for given, count in (("30s", 0), ("30m", 2), ("4h", 3), ("3d", 4)):
        assert len(jobs("logs", "digits", "--since", given).out.splitlines()) == count, given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--since", "soon"), "'soon'; expected such as 30m"),
        (("--since", "9999999d"), "'9999999d'; expected such as 30m"),  # before the year 1
        (("--tail", 0), "`tail` is 0"),
        (("--interval", "nan"), "'nan'; expected seconds, such as 10 or 0.5"),
        (("--interval", "inf"), "'inf'; expected seconds"),
        (("--interval", -1), "'-1'; expected seconds"),
    ],
)
def test_arguments_that_say_nothing_are_refused(
    two_hosts: World, jobs: Any, given: tuple[object, ...], told: str
) -> None:
    run = jobs("logs", "digits", *given)
    assert run.code == 2
    assert told in run.err
    assert two_hosts.times("GetLogEvents") == 0


def test_a_job_without_a_log_yet_says_what_it_does(world: World, jobs: Any) -> None:
    world.add(described("digits", "InProgress", SecondaryStatus="Starting"))
    run = jobs("logs", "digits")
    assert (run.code, run.out, run.err) == (0, "", "No line yet: digits is InProgress (Starting).\n")


def test_a_log_that_may_not_be_read_is_an_error(two_hosts: World, jobs: Any) -> None:
    two_hosts.refusals = {"DescribeLogStreams": [DENIED]}
    run = jobs("logs", "digits")
    assert run.code == 2
    assert "not authorized" in run.err


@pytest.mark.usefixtures("two_hosts")
def test_in_a_notebook_lines_print_as_a_log(python: Any) -> None:
    told = python(
        "from lightning_sagemaker.jobs import logs\n"
        "lines = logs('digits', tail=2)\n"
        "result = [repr(lines), lines[0].host, lines[0].text, lines[0].time.isoformat()]"
    )
    assert told == ["\n".join(MERGED[-2:]), "algo-1", "one 4", "2026-05-28T20:26:40.040000+00:00"]
