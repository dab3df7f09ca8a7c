"""Which jobs there are, and which one is meant."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.cli import main
from lightning_sagemaker.jobs.description import STATUSES

from .conftest import command
from .service import DENIED, NOON, NOT_FOUND, THROTTLED, World, described

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("jobs")


def test_jobs_of_every_state_are_listed_the_newest_first_over_all_pages(world: World, jobs: Any) -> None:
    world.add(*(described(f"job-{number}", status) for number, status in enumerate(STATUSES)))
    run = jobs("list")
    assert (run.code, run.err) == (0, "")
    rows = [line.split()[:2] for line in run.out.splitlines()]
    assert rows == [["name", "status"], *([f"job-{number}", status] for number, status in enumerate(STATUSES))]
    assert world.times("ListTrainingJobs") == 3, "of two names each"


def test_a_row_tells_what_the_job_does_its_hosts_and_how_long_it_took(world: World, jobs: Any) -> None:
    times: dict[str, Any] = {"TrainingStartTime": NOON + 60, "TrainingEndTime": NOON + 60 + 3725}
    groups = [{"InstanceType": f"ml.{kind}.xlarge", "InstanceCount": count} for kind, count in (("p5", 2), ("c5", 1))]
    world.add(
        described("mixed", ResourceConfig={"InstanceGroups": groups}, **times),
        described("starting", "InProgress", SecondaryStatus="Downloading", ResourceConfig={}),
    )
    mixed, starting = jobs("list").out.splitlines()[1:]
    assert mixed.endswith("2026-05-28 20:26:40 UTC  2 x ml.p5.xlarge + 1 x ml.c5.xlarge  1h 02m 05s")
    assert "InProgress (Downloading)" in starting
    assert starting.split()[-2:] == ["-", "-"]


def test_limit_status_and_name_choose(world: World, jobs: Any) -> None:
    world.add(*(described(f"digits-{number}", "Failed" if number % 2 else "Completed") for number in range(30)))
    world.add(described("other"))
    assert len(jobs("list").out.splitlines()) == 1 + 20
    assert len(jobs("list", "--all").out.splitlines()) == 1 + 31
    few = jobs("list", "--limit", 3, "--status", "Failed", "--name-contains", "git", "--json")
    assert [one["name"] for one in json.loads(few.out)] == ["digits-1", "digits-3", "digits-5"]
    assert json.loads(few.out)[0]["instances"] == [{"type": "ml.p4d.24xlarge", "count": 2}]
    assert json.loads(few.out)[0]["created"].startswith("2026-05-28T20:26:40")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--limit", 0), "`limit` is 0; expected 1 or more."),
        (("--name-contains", "a b"), "Name 'a b'; expected at most 63 letters, digits and dashes"),
    ],
)
def test_what_aws_would_not_take_is_not_asked(world: World, jobs: Any, given: tuple[object, ...], told: str) -> None:
    run = jobs("list", *given)
    assert run.code == 2
    assert run.err.startswith(f"lightning-sagemaker jobs list: error: {told}")
    assert "HINT: " in run.err
    assert world.asked == []


def test_throttling_is_waited_for(world: World, jobs: Any) -> None:
    world.add(described("digits"))
    world.refusals = {"ListTrainingJobs": [THROTTLED] * 2, "DescribeTrainingJob": [THROTTLED]}
    run = jobs("list")
    assert (run.code, run.err) == (0, "")
    assert "digits" in run.out


def test_a_job_that_is_deleted_meanwhile_is_left_out(world: World, jobs: Any) -> None:
    world.add(described("digits"), described("other"))
    world.refusals = {"DescribeTrainingJob": [NOT_FOUND]}
    assert len(jobs("list").out.splitlines()) == 2


def test_a_job_that_may_not_be_described_is_listed_with_what_the_list_says(world: World, jobs: Any) -> None:
    world.add(described("digits"))
    world.refusals = {"DescribeTrainingJob": [DENIED]}
    run = jobs("list")
    assert (run.code, run.err) == (0, "")
    assert run.out.splitlines()[1].split() == ["digits", "Completed", "2026-05-28", "20:26:40", "UTC", "-", "-"]


def test_the_beginning_of_a_name_is_enough_where_no_other_begins_so(world: World, jobs: Any) -> None:
    world.add(*(described(name) for name in ("digits-12", "digits-1", "my-digits-20")))
    assert jobs("show", "digits-12").out.startswith("digits-12: Completed")
    assert jobs("show", "digits-1").out.startswith("digits-1: Completed"), "a complete name comes first"
    assert jobs("show", "my-").out.startswith("my-digits-20: Completed")
    several = jobs("show", "digits-")
    assert several.code == 2
    assert several.err == (
        "lightning-sagemaker jobs show: error: Several training jobs begin with 'digits-': digits-12, digits-1."
        " HINT: give one of these names in full.\n"
    )


@pytest.mark.parametrize("action", ["show", "logs", "stop", "download"])
def test_a_job_that_does_not_exist_is_one_line_with_near_names(world: World, jobs: Any, action: str) -> None:
    world.add(*(described(name) for name in ("digits-2026", "other", "digits-2025")))
    run = jobs(action, "digts-2026")
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        f"lightning-sagemaker jobs {action}: error: There is no training job 'digts-2026' in us-east-1; there are"
        " digits-2026, digits-2025. HINT: `lightning-sagemaker jobs list` shows the newest; --region and --profile say"
        " where.\n"
    )


def test_what_aws_refuses_is_one_line(world: World, jobs: Callable[..., Any]) -> None:
    world.refusals = {"ListTrainingJobs": [{"__type": "AccessDeniedException", "message": "You \x1b[2J may\nnot."}]}
    run = jobs("list")
    assert run.code == 2
    (line,) = run.err.splitlines()
    assert "error: ClientError: " in line or "error: AccessDeniedException: " in line
    assert "You \\x1b[2J may not. HINT: " in line


def test_an_unknown_option_of_an_action_is_told_with_the_action(jobs: Any) -> None:
    run = jobs("list", "--limt", 3)
    assert run.code == 2
    assert run.err.startswith("usage: lightning-sagemaker jobs list ")


def test_debug_before_or_behind_the_action_shows_where_an_error_comes_from(jobs: Any) -> None:
    for given in (("--debug", "show", "a b"), ("show", "a b", "--debug")):
        assert "ValueError: Name 'a b'" in jobs(*given).err.splitlines()[-1]


def test_nothing_of_it_needs_sagemakers_sdk(world: World, jobs: Any) -> None:
    world.add(described("digits"))
    modules = jobs("list").modules
    assert "boto3" in modules
    assert not {"sagemaker", "torch", "lightning"} & set(modules)


def test_where_boto3_is_not_installed_a_line_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert main(["jobs", "list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    fix = "HINT: pip install 'lightning-sagemaker[submit]'."
    assert line == f"lightning-sagemaker jobs list: error: boto3 is not installed. {fix}"


def test_region_and_profile_say_where(world: World, jobs: Any, console: Any, url: str, tmp_path: Path) -> None:
    world.add(described("digits"))
    config = tmp_path / "config"
    config.write_text("[profile other]\naws_access_key_id = of-profile\naws_secret_access_key = of-profile\n")
    by_profile = console.python(
        command("show", "digts", "--profile", "other"), tmp_path, url, AWS_CONFIG_FILE=str(config)
    )
    assert "There is no training job 'digts' in us-east-1; there are digits." in by_profile.err
    assert "Credential=of-profile/" in world.signed
    assert "There is no training job 'digts' in eu-west-1" in jobs("show", "digts", "--region", "eu-west-1").err
    unknown = console.python(command("list", "--profile", "others"), tmp_path, url, AWS_CONFIG_FILE=str(config))
    assert unknown.code == 2
    assert "error: ProfileNotFound: The config profile (others) could not be found. HINT: `aws configure" in unknown.err
