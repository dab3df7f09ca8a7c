"""Following a job until it ends, and stopping it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import metrics

from ..submit.aws import sdk_python  # noqa: TID252 - importmode=importlib
from .conftest import command, environ
from .service import DENIED, NOON, THROTTLED, World, Written, described

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("jobs")

NAME = "digits-2026"
MS = NOON * 1000
ONE_HOST = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}


def running(what: str, **changes: Any) -> dict[str, Any]:
    return described(NAME, "InProgress", SecondaryStatus=what, **changes)


@pytest.fixture
def follow(jobs: Callable[..., Any]) -> Callable[..., Any]:
    """Follow the job."""
    return lambda *arguments: jobs("logs", NAME, "--follow", "--interval", 0.05, *arguments)


def test_states_log_and_metrics_are_told_until_the_job_completes(world: World, follow: Any) -> None:
    lines = [*(f"line {number}" for number in range(5)), metrics.line({"epoch": 3, "step": 120, "val_loss": 0.25})]
    world.jobs[NAME] = [
        running("Starting", ResourceConfig=ONE_HOST),
        *[running("Training", ResourceConfig=ONE_HOST)] * 8,
        described(NAME, ResourceConfig=ONE_HOST),
    ]
    world.streams = {f"{NAME}/algo-1-178": [Written(MS + at, line, after=2 + at) for at, line in enumerate(lines)]}
    run = follow()
    assert (run.code, run.err) == (0, "")
    printed = run.out.splitlines()
    assert [line for line in printed if not line.startswith("[")] == [*lines, f"{NAME}: Completed"]
    assert [line.partition("] ")[2] for line in printed if line.startswith("[")] == [
        "InProgress: Training",
        "InProgress: Training epoch=3 step=120 val_loss=0.25",
        "Completed: Completed epoch=3 step=120 val_loss=0.25",
    ]


def test_hosts_that_begin_to_write_later_are_followed_too(world: World, follow: Any) -> None:
    world.jobs[NAME] = [running("Training")] * 6 + [described(NAME)]
    world.streams = {f"{NAME}/algo-{host}-178": [Written(MS, f"from {host}", after=2 * host)] for host in (1, 2)}
    run = follow()
    assert [line for line in run.out.splitlines() if "from" in line] == ["[algo-1] from 1", "[algo-2] from 2"]


def test_lines_that_arrive_behind_the_end_are_told(world: World, jobs: Any) -> None:
    world.jobs[NAME] = [running("Training"), running("Training"), described(NAME)]
    lines = world.streams[f"{NAME}/algo-1-178"] = [Written(MS, "begin")]

    def arrive() -> None:
        while world.times("DescribeTrainingJob") < 3:  # which told that it has completed
            time.sleep(0.01)
        time.sleep(0.3)
        lines.append(Written(MS + 1, "last words"))

    late = threading.Thread(target=arrive)
    late.start()
    run = jobs("logs", NAME, "--follow", "--interval", 1.5)
    late.join()
    assert [line for line in run.out.splitlines() if "words" in line] == ["[algo-1] last words"]


def test_tail_leaves_out_what_was_written_before_and_nothing_of_what_follows(world: World, follow: Any) -> None:
    world.jobs[NAME] = [running("Training")] * 5 + [described(NAME)]
    old = [Written(MS + number, f"line {number}") for number in range(7)]
    new = [Written(MS + number, f"line {number}", after=number - 4) for number in range(7, 10)]
    world.streams = {f"{NAME}/algo-1-178": old + new}
    run = follow("--tail", 2, "--host", "algo-1")
    lines = [line for line in run.out.splitlines() if line.startswith("line")]
    assert lines == [f"line {number}" for number in range(5, 10)]


def test_a_silent_hosts_token_that_has_expired_loses_and_repeats_nothing(world: World, follow: Any) -> None:
    world.jobs[NAME] = [running("Training")] * 6 + [described(NAME)]
    world.streams = {f"{NAME}/algo-1-178": [Written(MS, "old"), Written(MS + 5, "new", after=6)]}
    expired = {"__type": "InvalidParameterException", "message": "The specified nextToken is invalid."}
    answer = world.refusals

    class Later(dict[str, list[dict[str, str]]]):
        def get(self, operation: str, default: Any = None) -> Any:
            late = operation == "GetLogEvents" and world.times(operation) == 5
            return [expired] if late else answer.get(operation, default)

    world.refusals = Later()
    run = follow("--host", "algo-1")
    assert (run.code, run.err) == (0, "")
    assert [line for line in run.out.splitlines() if line in ("old", "new")] == ["old", "new"]


@pytest.mark.parametrize("status", ["Failed", "Stopped", "Deleting"])
def test_a_job_that_does_not_complete_ends_with_code_1(world: World, follow: Any, status: str) -> None:
    world.jobs[NAME] = [running("Training"), described(NAME, "Stopping"), described(NAME, status)]
    run = follow()
    assert (run.code, run.err) == (1, "")
    assert run.out.splitlines()[-1] == f"{NAME}: {status}"


def test_a_failed_job_ends_with_its_reason_and_its_bill(world: World, follow: Any) -> None:
    reason = "AlgorithmError: ValueError: the column 'age' is missing\n[algo-2, rank 3]"
    world.jobs[NAME] = [
        running("Training"),
        running("Training"),
        described(NAME, "Failed", FailureReason=reason, BillableTimeInSeconds=95),
    ]
    assert follow().out.splitlines()[-4:] == [
        f"{NAME}: Failed",
        "FailureReason: AlgorithmError: ValueError: the column 'age' is missing",
        "    [algo-2, rank 3]",
        "billed: 95 s x 2 instance(s)",
    ]


def test_throttling_is_waited_for(world: World, follow: Any) -> None:
    world.jobs[NAME] = [running("Training"), described(NAME)]
    world.refusals = {operation: [THROTTLED] for operation in ("DescribeTrainingJob", "DescribeLogStreams")}
    run = follow()
    assert (run.code, run.err) == (0, "")


def test_the_state_is_followed_where_the_log_may_not_be_read(world: World, follow: Any) -> None:
    world.jobs[NAME] = [running("Training")] * 4 + [described(NAME)]
    world.streams = {f"{NAME}/algo-1-178": [Written(MS, "line")]}
    world.refusals = {"DescribeLogStreams": [DENIED] * 9}
    run = follow()
    assert run.code == 0
    assert [line for line in run.out.splitlines() if "The log cannot be read: " in line] == run.out.splitlines()[:1]
    assert world.times("DescribeLogStreams") == 1
    assert "123456789012" not in run.out


def failing(world: World, operation: str, call: int, error: dict[str, str]) -> None:
    """Let one operation fail at the call of this number, and at no other."""

    class Once(dict[str, list[dict[str, str]]]):
        def get(self, name: str, default: Any = None) -> Any:
            return [error] if name == operation and world.times(name) == call else default

    world.refusals = Once()


@pytest.mark.parametrize("call", [2, 3, 4, 5])
@pytest.mark.parametrize("operation", ["DescribeLogStreams", "GetLogEvents"])
def test_after_one_failed_question_the_log_goes_on_and_no_line_is_lost_or_doubled(
    world: World, follow: Any, operation: str, call: int
) -> None:
    world.jobs[NAME] = [running("Training")] * 8 + [described(NAME)]
    world.streams = {
        f"{NAME}/algo-{host}-178": [Written(MS + 2 * at + host, f"line {2 * at + host}", after=at) for at in range(7)]
        for host in (1, 2)
    }
    failing(world, operation, call, {"__type": "SomethingElse", "message": "Not today."})
    run = follow()
    assert (run.code, run.err) == (0, "")
    lines = [line.partition("] ")[2] for line in run.out.splitlines() if line.startswith("[algo-")]
    assert sorted(lines, key=lambda line: int(line.split()[1])) == [f"line {number}" for number in range(1, 15)]
    told = [line for line in run.out.splitlines() if "The log cannot be read" in line]
    assert len(told) == 1
    assert "Not today" in told[0]


@pytest.mark.parametrize(("operation", "call"), [("DescribeLogStreams", 3), ("GetLogEvents", 5)])
def test_a_question_that_fails_at_the_job_s_end_is_asked_again_for_the_last_lines(
    world: World, follow: Any, operation: str, call: int
) -> None:
    world.jobs[NAME] = [running("Training"), running("Training"), described(NAME)]
    world.streams = {
        f"{NAME}/algo-{host}-178": [Written(MS + host, "first"), Written(MS + 9, "the error", after=3)]
        for host in (1, 2)
    }
    failing(world, operation, call, {"__type": "SomethingElse", "message": "Not today."})
    run = follow()
    assert run.out.count("the error") == 2
    assert "were not read" not in run.out


def test_credentials_that_expire_end_the_following_and_not_the_job_and_a_line_says_so(
    world: World, follow: Any
) -> None:
    world.jobs[NAME] = [running("Training")]
    expired = {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}
    failing(world, "DescribeTrainingJob", 4, expired)
    run = follow()
    assert run.code == 2
    again = f"lightning-sagemaker jobs logs {NAME} --follow --region us-east-1"
    assert run.out.splitlines()[-1] == f"No longer following, which does not end the job. HINT: `{again}` goes on."
    assert "ExpiredTokenException" in run.err


def test_what_a_job_prints_does_nothing_to_the_terminal(world: World, follow: Any) -> None:
    world.jobs[NAME] = [running("Training"), described(NAME)]
    world.streams = {f"{NAME}/algo-1-178": [Written(MS, "a\tb \x1b[2J\x1b]0;title\x07 café")]}
    assert "a       b \\x1b[2J\\x1b]0;title\\x07 café" in follow("--host", "algo-1").out.splitlines()


def test_after_ctrl_c_a_line_says_that_the_job_goes_on_and_how_to_end_it(world: World, url: str) -> None:
    world.jobs[NAME] = [running("Training")]
    world.streams = {f"{NAME}/algo-1-178": [Written(MS, "line")]}
    # Python leaves SIGINT alone where it is ignored, as in a shell's background jobs.
    program = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + command(
        "logs", NAME, "--follow", "--interval", 0.05
    )
    process = subprocess.Popen(
        [sdk_python("v2"), "-c", program], env=environ(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while world.times("DescribeTrainingJob") < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (130, "")
    *_, line, last = out.splitlines()
    assert "InProgress: Training" in line
    stop = f"lightning-sagemaker jobs stop {NAME} --region us-east-1"
    assert last == f"No longer following: the job continues. HINT: `{stop}` ends it."
    assert world.times("StopTrainingJob") == 0


# --- stop ----------------------------------------------------------------------------------------------------------


def test_a_running_job_is_asked_to_stop(world: World, jobs: Any) -> None:
    world.jobs[NAME] = [running("Training")]
    run = jobs("stop", "digits")
    assert (run.code, run.err) == (0, "")
    told = "its last checkpoint stays, as AWS's images do not tell the script"
    assert run.out == f"{NAME}: asked to stop, Stopping; {told}\n"
    assert ("StopTrainingJob", {"TrainingJobName": NAME}) in world.asked


def test_stop_waits_for_the_end_where_asked(world: World, jobs: Any) -> None:
    world.jobs[NAME] = [running("Training")]
    assert jobs("stop", NAME, "--wait", "--interval", 0.05).out == f"{NAME}: asked to stop, Stopped\n"


@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped", "Deleting"])
def test_a_job_that_has_ended_is_not_asked_to_stop(world: World, jobs: Any, status: str) -> None:
    world.add(described(NAME, status))
    run = jobs("stop", NAME, "--wait")
    assert (run.code, run.out) == (0, f"{NAME}: not stopped, it has ended already: {status}\n")
    assert world.times("StopTrainingJob") == 0


def test_a_job_that_ends_before_the_question_arrives_has_ended_already(world: World, jobs: Any) -> None:
    world.jobs[NAME] = [running("Training"), described(NAME)]
    rejected = "The request was rejected because the training job is in status Completed."
    world.refusals = {"StopTrainingJob": [{"__type": "ValidationException", "message": rejected}]}
    run = jobs("stop", NAME)
    assert (run.code, run.out) == (0, f"{NAME}: not stopped, it has ended already: Completed\n")


def test_a_job_that_stops_already_holds_up_no_other_if_sagemaker_refuses_to_stop_it_again(
    world: World, jobs: Any
) -> None:
    world.jobs = {"one": [described("one", "Stopping")], "two": [described("two", "InProgress")]}
    rejected = "The request was rejected because the training job is in status Stopping."
    world.refusals = {"StopTrainingJob": [{"__type": "ValidationException", "message": rejected}]}
    run = jobs("stop", "one", "two")
    assert (run.code, run.err) == (0, "")
    assert [line.partition(";")[0] for line in run.out.splitlines()] == [
        f"{name}: asked to stop, Stopping" for name in ("one", "two")
    ]


def test_where_one_of_several_jobs_may_not_be_stopped_each_has_its_line(world: World, jobs: Any) -> None:
    world.jobs = {name: [described(name, "InProgress")] for name in ("one", "two", "three")}
    failing(world, "StopTrainingJob", 2, DENIED)
    run = jobs("stop", "one", "two", "three")
    assert (run.code, run.err) == (1, "")
    one, two, three = run.out.splitlines()
    assert one.startswith("one: asked to stop, Stopping; ")
    assert two.startswith("two: not stopped, it is InProgress: An error occurred (AccessDeniedException)")
    assert two.endswith(" HINT: the message is AWS's: check permissions and login.")
    assert "123456789012" not in two
    assert three.startswith("three: asked to stop, Stopping; ")


def test_a_wait_that_fails_leaves_no_stopped_job_untold(world: World, jobs: Any) -> None:
    world.jobs = {name: [described(name, "InProgress")] for name in ("one", "two")}
    failing(world, "DescribeTrainingJob", 5, DENIED)  # each was found, and asked for after the stop
    run = jobs("stop", "one", "two", "--wait", "--interval", 0.05)
    assert (run.code, run.err) == (1, "")
    one, two = run.out.splitlines()
    assert one.startswith("one: asked to stop, Stopping; ")
    assert "(AccessDeniedException)" in one
    assert two == "two: asked to stop, Stopped"


@pytest.mark.parametrize("rest", [["two"], ["--wait"]])
def test_what_follows_two_dashes_stops_nothing(world: World, jobs: Any, rest: list[str]) -> None:
    world.jobs = {name: [described(name, "InProgress")] for name in ("one", "two")}
    run = jobs("stop", "one", "--", *rest)
    assert run.code == 2
    assert f"error: unrecognized arguments after --: {rest[0]}. HINT: leave the -- out." in run.err
    assert world.asked == []


def test_of_several_jobs_all_or_none_are_stopped(world: World, jobs: Any) -> None:
    world.jobs = {name: [described(name, "InProgress")] for name in ("one", "two")}
    run = jobs("stop", "one", "three")
    assert run.code == 2
    assert world.times("StopTrainingJob") == 0
    assert [line.partition(":")[0] for line in jobs("stop", "one", "two").out.splitlines()] == ["one", "two"]
