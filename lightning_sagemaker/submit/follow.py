"""Follows a training job: its state, its log, how long it takes, and why it ended."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from lightning_sagemaker import metrics
from lightning_sagemaker.options import one_line, printable, write
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_ENDED = ("Completed", "Failed", "Stopped")
_INTERRUPTED = 130  # as a shell's, 128 and the signal's number
_EVERY = 10.0  # seconds between two questions; SageMaker allows few
_VALUES = re.compile(r"(?<=[:;] )([^=;]+)=([^;]+)(?=;)")


def console_link(name: str, region: str) -> str:
    """Page of the job in the console."""
    domain = "amazonaws.cn" if region.startswith("cn-") else "aws.amazon.com"
    return f"https://{region}.console.{domain}/sagemaker/home?region={region}#/jobs/{name}"


def follow(name: str, session: Any, *, every: float = _EVERY, out: TextIO = sys.stdout) -> int:
    """Print a job's log and state until it ends, or until Ctrl-C: the job goes on then, and a line says so.

    Args:
        name: Name of the job.
        session: Session of boto3.
        every: Seconds between two questions.
        out: Where to print.

    Returns:
        0 if it completed, 1 otherwise, 130 after Ctrl-C.
    """
    try:
        return _follow(name, session, every, out)
    except KeyboardInterrupt:
        stop = f"aws sagemaker stop-training-job --region {session.region_name} --training-job-name {name}"
        out.write(f"Not followed any longer: the job goes on. HINT: `{stop}` ends it.\n")
        return _INTERRUPTED


def _follow(name: str, session: Any, every: float, out: TextIO) -> int:
    client, logs = session.client("sagemaker"), session.client("logs")
    streams, last = _Streams(name, logs), ""
    values: dict[str, str] = {}
    begin = time.monotonic()
    while True:
        try:
            job = client.describe_training_job(TrainingJobName=name)
        except client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in ("ThrottlingException", "Throttling"):
                raise
            time.sleep(every)
            continue
        for line in streams.new_lines():
            write(f"{printable(line)}\n", out)
            if metrics.BEGIN in line:
                values |= dict(_VALUES.findall(line))
        state = f"{job['TrainingJobStatus']}: {job.get('SecondaryStatus', '')}"
        told = " ".join([state, *(f"{key}={value}" for key, value in values.items())])
        if told != last:
            write(f"[{time.monotonic() - begin:6.0f} s] {printable(told)}\n", out)
            last = told
        out.flush()
        if job["TrainingJobStatus"] in _ENDED:
            break
        time.sleep(every)
    write(_ending(job), out)
    return 0 if job["TrainingJobStatus"] == "Completed" else 1


def _ending(job: dict[str, Any]) -> str:
    lines = [f"{job['TrainingJobName']}: {job['TrainingJobStatus']}"]
    if reason := job.get("FailureReason"):
        lines.append(f"FailureReason: {redact(one_line(reason))}")
    if seconds := job.get("BillableTimeInSeconds"):
        count = job.get("ResourceConfig", {}).get("InstanceCount", 1)
        lines.append(f"billed: {seconds} s x {count} instance(s)")
    return "\n".join(lines) + "\n"


class _Streams:
    """Log streams of a job, one for each host; new ones appear while it runs."""

    def __init__(self, name: str, logs: Any) -> None:
        self._name = name
        self._logs = logs
        self._tokens: dict[str, str | None] = {}

    def new_lines(self) -> Iterator[str]:
        """What has been written since the last call, host by host."""
        try:
            found = self._logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._name}/")
        except self._logs.exceptions.ClientError:  # no line has been written yet, or it may not be asked for
            return
        for stream in found["logStreams"]:
            self._tokens.setdefault(stream["logStreamName"], None)
        several = len(self._tokens) > 1
        for stream, token in self._tokens.items():
            host = stream.partition("/")[2].rpartition("-")[0]
            for event in self._events(stream, token):
                yield f"[{host}] {event}" if several else event

    def _events(self, stream: str, token: str | None) -> Iterator[str]:
        while True:
            place = {"nextToken": token} if token else {}
            found = self._logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **place)
            yield from (event["message"] for event in found["events"])
            self._tokens[stream] = found["nextForwardToken"]
            if found["nextForwardToken"] == token or not found["events"]:
                return
            token = found["nextForwardToken"]
