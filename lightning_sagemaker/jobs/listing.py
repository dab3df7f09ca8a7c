"""Lists training jobs, and finds one by its name or the beginning of its name."""

from __future__ import annotations

import dataclasses
import difflib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import STATUSES, Job, hosts, read, seconds, when

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}")  # as CreateTrainingJob demands
_PART = re.compile(r"[a-zA-Z0-9-]{1,63}")
_AT_ONCE = 8  # questions; more are throttled
_PAGE = 100  # names in one answer, at most
_TOLD = 5  # names in an error


class Jobs(list[Job]):
    """Training jobs; they print as a table, in a notebook too."""

    def __str__(self) -> str:
        rows = [("name", "status", "created", "hosts", "duration")]
        for job in self:
            doing = "" if job.secondary_status in ("", job.status) else f" ({job.secondary_status})"
            rows.append((job.name, job.status + doing, when(job.created), hosts(job), seconds(job.duration)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    __repr__ = __str__


def jobs(
    *, limit: int | None = 20, status: str | None = None, name_contains: str | None = None, session: Any = None
) -> Jobs:
    """Training jobs of the account, newest first.

    Args:
        limit: How many at most; ``None`` for all.
        status: Only those with this status, for example ``"InProgress"``.
        name_contains: Only those whose names contain this.
        session: Session of boto3; by default a new one.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: An argument is none that AWS takes.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` is {limit}; expected 1 or more. HINT: --limit 20, or --all.")
    if status not in (None, *STATUSES):
        raise ValueError(f"Status {status!r}; expected one of {', '.join(STATUSES)}.")
    session = session or aws.session()
    client = aws.client(session, "sagemaker")
    chosen = {"StatusEquals": status, "NameContains": name_contains and _checked(name_contains)}
    summaries = islice(_summaries(client, **{key: value for key, value in chosen.items() if value}), limit)

    def described(summary: Any) -> Any:
        try:
            return _describe(client, summary["TrainingJobName"])
        except client.exceptions.ClientError as error:
            if aws.code_of(error) not in aws.DENIED:  # as a policy may do for some names
                raise
            return summary

    # The listing lacks instance types. Whoever deletes a job meanwhile makes it disappear from here.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(described, summaries)
        return Jobs(read(one, session.region_name) for one in found if one is not None)


def job(name: str, *, session: Any = None) -> Job:
    """One training job, with its tags, and with prices if the price API may be asked.

    Args:
        name: Its name, or the beginning of it that no other has.
        session: Session of boto3; by default a new one.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: There is no such job, or there are several.
    """
    session = session or aws.session()
    found = find(name, session)
    costs, unknown = aws.prices(sorted({group.type for group in found.instances}), session)
    client, tags = aws.client(session, "sagemaker"), None
    with suppress(client.exceptions.ClientError):  # they may not be asked for; the rest is told all the same
        pages = client.get_paginator("list_tags").paginate(ResourceArn=found.arn)
        tags = {one["Key"]: one["Value"] for page in pages for one in page["Tags"]}
    return dataclasses.replace(found, tags=tags, prices=costs, price_unknown=unknown)


def find(name: str, session: Any) -> Job:
    """The one job with this name, or whose name begins with it, as `DescribeTrainingJob` describes it."""
    client, region = aws.client(session, "sagemaker"), session.region_name
    found = _describe(client, name) if _NAME.fullmatch(_checked(name)) else None
    if found is None:
        begin_so = (other for other in _names(client, NameContains=name) if other.startswith(name))
        several = list(islice(begin_so, _TOLD + 1))
        if len(several) > 1:
            told = ", ".join(several[:_TOLD]) + ", ..." * (len(several) > _TOLD)
            raise ValueError(
                f"Several training jobs begin with {name!r}: {told}. HINT: give one of these names in full."
            )
        found = _describe(client, several[0]) if several else None
    if found is not None:  # it may have been deleted meanwhile
        return read(found, region)
    near = difflib.get_close_matches(name, list(islice(_names(client), _PAGE)), cutoff=0.5)
    raise ValueError(
        f"There is no training job {name!r} in {region}"
        + (f"; there are {', '.join(near)}" if near else "")
        + ". HINT: `lightning-sagemaker jobs list` shows the newest; --region and --profile say where."
    )


def _checked(name: str) -> str:
    if not _PART.fullmatch(name):
        raise ValueError(f"Name {name!r}; expected at most 63 letters, digits and dashes, as training jobs have them.")
    return name


def _names(client: Any, **chosen: str) -> Iterator[str]:
    """Names of jobs, newest first."""
    return (one["TrainingJobName"] for one in _summaries(client, **chosen))


def _summaries(client: Any, **chosen: str) -> Iterator[Any]:
    pages = client.get_paginator("list_training_jobs").paginate(
        SortBy="CreationTime", SortOrder="Descending", PaginationConfig={"PageSize": _PAGE}, **chosen
    )
    return (one for page in pages for one in page["TrainingJobSummaries"])


def _describe(client: Any, name: str) -> Any:
    """The job as AWS describes it; ``None`` if there is none of this name."""
    try:
        return client.describe_training_job(TrainingJobName=name)
    except client.exceptions.ClientError as error:
        if aws.is_missing(error):
            return None
        raise
