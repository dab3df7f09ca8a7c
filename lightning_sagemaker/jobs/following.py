"""Follows a training job until it ends: its state, its log, how long it takes, and why it ended."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from lightning_sagemaker import metrics
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import Job, failure, read
from lightning_sagemaker.jobs.listing import find
from lightning_sagemaker.jobs.log import Line, Log
from lightning_sagemaker.options import one_line, printable, write
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

EVERY = 10.0  # seconds between two questions; SageMaker allows few
_LATE = 5.0  # seconds by which a line may arrive behind the job's end
_INTERRUPTED = 130  # exit code after Ctrl-C, as a shell's: 128 and the signal's number
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
    try:
        return _print_until_it_ends(log, states(job.name, session, every), tail, min(every, _LATE), out)
    except KeyboardInterrupt:
        profile = "" if session.profile_name == "default" else f" --profile {session.profile_name}"
        stop = f"lightning-sagemaker jobs stop {job.name} --region {session.region_name}{profile}"
        write(f"No longer following: the job continues. HINT: `{stop}` ends it.\n", out)
        return _INTERRUPTED


def _print_until_it_ends(log: Log, jobs: Iterator[Job], tail: int | None, late: float, out: TextIO) -> int:
    from botocore.exceptions import ClientError

    begin, told, readable = time.monotonic(), "", True
    values: dict[str, str] = {}
    for number, job in enumerate(jobs):
        if number and job.has_ended:  # just now, so that its last lines may be on their way
            time.sleep(late)
        try:
            lines: Iterable[Line] = () if not readable else log.new() if tail is None else log.last(tail)
            for line in lines:
                write(f"{log.text(line)}\n", out)
                if metrics.BEGIN in line.text:
                    values |= dict(_VALUES.findall(line.text))
        except ClientError as error:  # the state can be followed all the same
            readable = False
            write(f"The log cannot be read: {redact(one_line(str(error)))}\n", out)
        tail = None
        state = " ".join([f"{job.status}: {job.secondary_status}", *(f"{name}={one}" for name, one in values.items())])
        if state != told:
            write(f"[{time.monotonic() - begin:6.0f} s] {printable(state)}\n", out)
            told = state
        out.flush()
    ending = [f"{job.name}: {job.status}", *failure(job)]
    if job.billable_seconds:
        ending.append(f"billed: {job.billable_seconds} s x {job.hosts} instance(s)")
    write("".join(f"{line}\n" for line in ending), out)
    return 0 if job.status == "Completed" else 1
