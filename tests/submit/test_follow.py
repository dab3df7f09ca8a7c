"""Following a job: against a server of our own, since moto's jobs are completed at birth and have no log."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from lightning_sagemaker import metrics

from .aws import ROOT, JsonAnswers, sdk_python, serving

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "digits-2026"
FOLLOW = f"""
import sys, boto3
from lightning_sagemaker.submit.follow import follow
sys.exit(follow({NAME!r}, boto3.Session(), every=0.1))
"""
Follow = "Callable[[list[Any], dict[str, list[str]]], subprocess.CompletedProcess[str]]"


class Service(JsonAnswers):
    """Answers as SageMaker and CloudWatch Logs do: one state after the other, and one line more each time."""

    states: ClassVar[list[Any]] = []
    lines: ClassVar[dict[str, list[str]]] = {}
    asked = 0

    def answer(self, operation: str, body: dict[str, Any]) -> tuple[int, Any]:
        return getattr(self, operation)(body)  # type: ignore[no-any-return]

    def DescribeTrainingJob(self, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802 - AWS's name
        assert body["TrainingJobName"] == NAME
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "throttled":
            return 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}
        type(self).asked += 1
        return 200, {"TrainingJobName": NAME, "ResourceConfig": {"InstanceCount": 2}, **state}

    def DescribeLogStreams(self, _body: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802 - AWS's name
        if self.asked < 2:
            return 400, {"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."}
        return 200, {"logStreams": [{"logStreamName": name} for name in self.lines]}

    def GetLogEvents(self, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802 - AWS's name
        lines = self.lines[body["logStreamName"]]
        begin = int(body.get("nextToken", "f/0")[2:])
        end = len(lines) if self.states[0].get("TrainingJobStatus") != "InProgress" else min(begin + 1, len(lines))
        events = [{"timestamp": 1, "message": line} for line in lines[begin:end]]
        return 200, {"events": events, "nextForwardToken": f"f/{end}", "nextBackwardToken": "b/0"}


@pytest.fixture
def follow() -> Callable[[list[Any], dict[str, list[str]]], subprocess.CompletedProcess[str]]:
    """Follow a job that goes through these states and writes these lines."""

    def follow(
        states: list[Any], lines: dict[str, list[str]], program: str = FOLLOW
    ) -> subprocess.CompletedProcess[str]:
        with serving(Service, states=states, lines=lines) as url:
            environ = {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "stand-in",
                "AWS_SECRET_ACCESS_KEY": "stand-in",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_MAX_ATTEMPTS": "1",
                "PYTHONPATH": str(ROOT),
            }
            command = [str(sdk_python("v2")), "-c", program]
            return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)

    return follow


# Ctrl-C, as soon as the job trains.
INTERRUPTED = f"""
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
{FOLLOW}"""


def running(what: str) -> dict[str, str]:
    return {"TrainingJobStatus": "InProgress", "SecondaryStatus": what}


def test_states_log_and_metrics_are_told_until_the_job_completes(follow: Any) -> None:
    lines = [f"line {number}" for number in range(3)] + [metrics.line({"epoch": 3, "step": 120, "val_loss": 0.25})]
    done = follow(
        [running("Starting"), running("Training"), running("Training"), {"TrainingJobStatus": "Completed"}],
        {f"{NAME}/algo-1-1700000000": lines},
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert [line for line in printed if line.startswith("line ")] == lines[:3]
    assert any("InProgress: Starting" in line for line in printed)
    assert any("Completed" in line and "epoch=3 step=120 val_loss=0.25" in line for line in printed)
    assert printed[-1] == f"{NAME}: Completed"


def test_several_hosts_lines_bear_their_names(follow: Any) -> None:
    streams = {f"{NAME}/algo-{number}-1700": [f"from {number}"] for number in (1, 2)}
    done = follow([running("Training"), running("Training"), {"TrainingJobStatus": "Completed"}], streams)
    assert {"[algo-1] from 1", "[algo-2] from 2"} <= set(done.stdout.splitlines())


def test_a_failed_job_ends_with_its_reason_its_bill_and_code_1(follow: Any) -> None:
    reason = "AlgorithmError: ValueError: the column 'age' is missing"
    failed = {"TrainingJobStatus": "Failed", "FailureReason": reason, "BillableTimeInSeconds": 95}
    done = follow([running("Training"), failed], {})
    assert done.returncode == 1
    assert done.stdout.splitlines()[-3:] == [
        f"{NAME}: Failed",
        f"FailureReason: {reason}",
        "billed: 95 s x 2 instance(s)",
    ]


def test_throttling_is_waited_for(follow: Any) -> None:
    done = follow([running("Starting"), *["throttled"] * 3, {"TrainingJobStatus": "Completed"}], {})
    assert done.returncode == 0, done.stderr


def test_after_ctrl_c_a_line_says_that_the_job_goes_on_and_how_to_end_it(follow: Any) -> None:
    done = follow([running("Training")], {}, INTERRUPTED)
    assert (done.returncode, done.stderr) == (130, "")
    stop = f"aws sagemaker stop-training-job --region us-east-1 --training-job-name {NAME}"
    assert done.stdout.splitlines()[-1] == f"Not followed any longer: the job goes on. HINT: `{stop}` ends it."


def test_what_a_job_prints_does_nothing_to_the_terminal(follow: Any) -> None:
    streams = {f"{NAME}/algo-1-1700": ["a\tb \x1b[2J\x1b]0;title\x07 café"]}
    done = follow([running("Training"), running("Training"), {"TrainingJobStatus": "Completed"}], streams)
    assert "a       b \\x1b[2J\\x1b]0;title\\x07 café" in done.stdout.splitlines()
