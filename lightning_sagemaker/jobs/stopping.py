"""Stops training jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import ENDED
from lightning_sagemaker.jobs.following import EVERY, states
from lightning_sagemaker.jobs.listing import find


@dataclass(frozen=True, repr=False)
class Stop:
    """Outcome of a request to stop a job.

    Attributes:
        name: Complete name of the job.
        status: Its status then.
        asked: Whether it was asked to stop; it was not if it had ended already.
    """

    name: str
    status: str
    asked: bool

    def __str__(self) -> str:
        if not self.asked:
            return f"{self.name}: not stopped, it has ended already: {self.status}"
        # SageMaker sends SIGTERM, and SIGKILL 120 seconds later.
        saving = "" if self.status in ENDED else "; its script has 120 s to save what it has"
        return f"{self.name}: asked to stop, {self.status}{saving}"

    __repr__ = __str__


def stop(*names: str, wait: bool = False, every: float = EVERY, session: Any = None) -> list[Stop]:
    """Stop training jobs: all of them, or none if one of the names is wrong.

    Args:
        names: Names of jobs, or beginnings of them that no other has.
        wait: Whether to wait until they have ended.
        every: Seconds between two questions.
        session: Session of boto3; by default a new one.

    Returns:
        What became of each.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: One of them is not there, or there are several.
    """
    session = session or aws.session()
    client = aws.client(session, "sagemaker")
    found = [find(name, session) for name in names]
    stops = [Stop(job.name, job.status, asked=False) if job.has_ended else _ask(client, job.name) for job in found]
    return [_wait(one, session, every) if wait and one.asked else one for one in stops]


def _ask(client: Any, name: str) -> Stop:
    """Ask SageMaker to stop one job, which may end before the request arrives."""
    refused = None
    try:
        client.stop_training_job(TrainingJobName=name)
    except client.exceptions.ClientError as error:
        refused = error
    status = client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
    if refused is not None and status not in ENDED:
        raise refused
    return Stop(name, status, asked=refused is None)


def _wait(one: Stop, session: Any, every: float) -> Stop:
    *_, job = states(one.name, session, every)
    return Stop(one.name, job.status, one.asked)
