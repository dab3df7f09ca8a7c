"""Follows a training job until it ends: state, log, how long it takes, why it ended; and stops jobs."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TextIO

from lightning_sagemaker import metrics
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import ENDED, Job, failure, read
from lightning_sagemaker.jobs.listing import find
from lightning_sagemaker.jobs.log import Log
from lightning_sagemaker.options import INTERRUPTED, one_line, printable, write
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

EVERY = 10.0  # seconds between two questions; SageMaker allows few
_LATE = 5.0  # seconds by which a line may arrive behind the job's end
_VALUES = re.compile(r"(?<=[:;] )([^=;]+)=([^;]+)(?=;)")


def states(name: str, session: Any, every: float = EVERY) -> Iterator[Job]:
    """States of a job, one after another, until it has ended; so many seconds are between two questions."""
    client = aws.client(session, "sagemaker")
    while True:
        job = read(client.describe_training_job(TrainingJobName=name), session.region_name)
        yield job
        if job.has_ended:
            return
        time.sleep(every)


def follow(
    name: str,
    session: Any = None,
    *,
    host: str | None = None,
    tail: int | None = None,
    since: datetime | None = None,
    every: float = EVERY,
    out: TextIO | None = None,
) -> int:
    """Print a job's log and state until it ends, or until Ctrl-C: then the job continues, and a line says so.

    Args:
        name: Name of the job, or the beginning of it that no other has.
        session: Session of boto3; by default a new one.
        host: Only this host's lines, for example ``algo-1``.
        tail: Of what is written already, only so many lines.
        since: Only lines of this time or later.
        every: Seconds between two questions.
        out: Where to print; standard output by default.

    Returns:
        0 if it completed, 1 otherwise, 130 after Ctrl-C.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: There is no such job, or no such host in it.
    """
    session, out = session or aws.session(), out or sys.stdout
    job = find(name, session)
    log = Log(job, session, host=host, since=since)
    profile = "" if session.profile_name == "default" else f" --profile {session.profile_name}"
    where = f"--region {session.region_name}{profile}"
    try:
        return _Printed(log, tail, out).until_it_ends(states(job.name, session, every), min(every, _LATE))
    except KeyboardInterrupt:
        stop = f"lightning-sagemaker jobs stop {job.name} {where}"
        write(f"No longer following: the job continues. HINT: `{stop}` ends it.\n", out)
        return INTERRUPTED
    except aws.errors():  # credentials that expire, a network that is gone
        again = f"lightning-sagemaker jobs logs {job.name} --follow {where}"
        write(f"No longer following, which does not end the job. HINT: `{again}` goes on.\n", out)
        raise


@dataclass
class _Printed:
    """What is printed of a job's log."""

    log: Log
    tail: int | None  # of what is written already, only so many lines
    out: TextIO
    values: dict[str, str] = field(default_factory=dict)  # the newest of each metric
    is_readable: bool = True
    problem: str = ""

    def go_on(self) -> bool:
        """Print the lines that are new; false where they could not be read, but may be later."""
        if not self.is_readable:
            return True
        try:
            for line in self.log.new(self.tail):
                write(f"{self.log.text(line)}\n", self.out)
                if metrics.BEGIN in line.text:
                    self.values |= dict(_VALUES.findall(line.text))
        except aws.errors() as error:  # the state can be followed all the same
            self.is_readable = aws.code_of(error) not in aws.DENIED
            if self.problem != (problem := redact(one_line(str(error)))):
                again = "; it is asked for again" if self.is_readable else ""
                write(f"The log cannot be read{again}: {problem}\n", self.out)
                self.problem = problem
            return not self.is_readable
        self.tail = None
        return True

    def until_it_ends(self, jobs: Iterator[Job], late: float) -> int:
        """Print lines and states until the job has ended; the exit code. So late may a line arrive behind the end."""
        begin, told, is_complete = time.monotonic(), "", True
        for number, job in enumerate(jobs):
            if number and job.has_ended:  # just now, so that its last lines may be on their way
                time.sleep(late)
            is_complete = self.go_on()
            if job.has_ended and not is_complete:
                time.sleep(late)
                is_complete = self.go_on()
            values = (f"{name}={one}" for name, one in self.values.items())
            state = " ".join([f"{job.status}: {job.secondary_status}", *values])
            if state != told:
                write(f"[{time.monotonic() - begin:6.0f} s] {printable(state)}\n", self.out)
                told = state
            self.out.flush()
        ending = [f"{job.name}: {job.status}", *failure(job)]
        if not is_complete:
            ending.append(f"The last lines of the log were not read. HINT: `lightning-sagemaker jobs logs {job.name}`.")
        if job.billable_seconds:
            ending.append(f"billed: {job.billable_seconds} s x {job.hosts or 'unknown'} instance(s)")
        write("".join(f"{line}\n" for line in ending), self.out)
        return 0 if job.status == "Completed" else 1


@dataclass(frozen=True, repr=False)
class Stop:
    """Outcome of a request to stop a job.

    Attributes:
        name: Complete name of the job.
        status: Its status then.
        asked: Whether it was asked to stop; it was not if it had ended already, or for the `problem`.
        problem: What AWS refused, in its words: to stop the job, or to tell its status.
    """

    name: str
    status: str
    asked: bool
    problem: str = ""

    def __str__(self) -> str:
        problem = f": {self.problem}. HINT: the message is AWS's: check permissions and login." if self.problem else ""
        if not self.asked:
            return f"{self.name}: not stopped, it {'is' if problem else 'has ended already:'} {self.status}{problem}"
        # SageMaker sends SIGTERM, and SIGKILL 120 seconds later; AWS's images do not pass it on (docs/ending.md).
        saving = "" if self.status in ENDED else "; its last checkpoint stays, as AWS's images do not tell the script"
        return f"{self.name}: asked to stop, {self.status}{saving}{problem}"

    __repr__ = __str__


def stop(*names: str, wait: bool = False, every: float = EVERY, session: Any = None) -> list[Stop]:
    """Stop training jobs: all of them, or none if one of the names is wrong.

    Args:
        names: Names of jobs, or beginnings of them that no other has.
        wait: Whether to wait until they have ended.
        every: Seconds between two questions.
        session: Session of boto3; by default a new one.

    Returns:
        What became of each, with the ``problem`` where AWS has refused.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: One of them is not there, or there are several.
    """
    session = session or aws.session()
    found = [find(name, session) for name in names]
    stops = [Stop(job.name, job.status, asked=False) if job.has_ended else _ask(job, session) for job in found]

    def ended(one: Stop) -> Stop:
        try:
            return replace(one, status=deque(states(one.name, session, every), maxlen=1)[0].status)
        except aws.errors() as error:
            return replace(one, problem=redact(one_line(str(error))))

    return [ended(one) if wait and one.asked else one for one in stops]


def _ask(job: Job, session: Any) -> Stop:
    """Ask SageMaker to stop one job, which may end before the request arrives, or stop already."""
    client, status, problem = aws.client(session, "sagemaker"), job.status, ""
    try:
        client.stop_training_job(TrainingJobName=job.name)
    except aws.errors() as error:
        problem = redact(one_line(str(error)))
    with suppress(*aws.errors()):
        status = client.describe_training_job(TrainingJobName=job.name)["TrainingJobStatus"]
    asked = not problem or status == "Stopping"
    return Stop(job.name, status, asked, "" if asked or status in ENDED else problem)
