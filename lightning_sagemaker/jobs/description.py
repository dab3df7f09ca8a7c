"""A training job as AWS describes it, and as people read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.options import one_line, printable
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("InProgress", "Completed", "Failed", "Stopping", "Stopped", "Deleting")  # all that the API knows
ENDED = ("Completed", "Failed", "Stopped", "Deleting")
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_DOMAINS = {"cn-": "amazonaws.cn", "us-gov-": "amazonaws-us-gov.com"}  # of the console, by how the region begins


@dataclass(frozen=True)
class Instances:
    """Hosts of one type: all hosts of a job, or one of its instance groups.

    Attributes:
        type: Instance type.
        count: Number of hosts.
    """

    type: str
    count: int


@dataclass(frozen=True)
class Transition:
    """A secondary status that a job went through.

    Attributes:
        status: The status.
        began: When it began.
        ended: When it ended; ``None`` for the present one.
        message: SageMaker's words.
    """

    status: str
    began: datetime
    ended: datetime | None
    message: str


@dataclass(frozen=True, repr=False)
class Job:
    """A training job at the moment when AWS was asked; it prints as a page for people, in a notebook too.

    Attributes:
        name: Name of the job.
        arn: Its ARN.
        region: AWS region.
        status: ``InProgress``, ``Completed``, ``Failed``, ``Stopping``, ``Stopped`` or ``Deleting``.
        secondary_status: What it does, for example ``Downloading``.
        created: When it was sent.
        started: When the hosts began to be billed; ``None`` before.
        ended: When they ended.
        duration: Seconds from `started` to `ended`, or to now.
        billable_seconds: Seconds for which each host is billed, as AWS says at the end, with spot's discount; until
            then `duration`.
        warm_pool: State of the warm pool that keeps the hosts afterwards, for example ``Available``; ``None`` for none.
        kept_seconds: Seconds for which it has kept each host, which are billed too; ``None`` where AWS does not say.
        instances: Hosts of each type.
        spot: Whether these are managed spot instances.
        image: The container's image.
        failure_reason: Why it failed, without secrets.
        checkpoints: S3 URI of ``/opt/ml/checkpoints``; ``None`` where they are not kept.
        model: S3 URI of the model; ``None`` before there is one.
        output: S3 URI below which the model and ``output.tar.gz`` come to lie.
        metrics: Last value of each metric of the job page.
        transitions: What it went through.
        tags: Its tags; ``None`` where they were not or may not be asked for.
        prices: On-demand price of an hour of each instance type, in USD, as the price API says.
        price_unknown: Why there are no `prices`.
    """

    name: str
    arn: str
    region: str
    status: str
    secondary_status: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    duration: int | None
    billable_seconds: int | None
    warm_pool: str | None
    kept_seconds: int | None
    instances: tuple[Instances, ...]
    spot: bool
    image: str | None
    failure_reason: str | None
    checkpoints: str | None
    model: str | None
    output: str | None
    metrics: Mapping[str, float]
    transitions: tuple[Transition, ...]
    tags: Mapping[str, str] | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    price_unknown: str = "not asked for"

    @property
    def hosts(self) -> int:
        """Number of hosts."""
        return sum(group.count for group in self.instances)

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended."""
        return self.status in ENDED

    @property
    def cost(self) -> float | None:
        """Cost of the hosts so far in USD, at the on-demand price; ``None`` if the price is unknown."""
        if (
            self.billable_seconds is None
            or not self.instances
            or any(group.type not in self.prices for group in self.instances)
        ):
            return None
        hourly = sum(self.prices[group.type] * group.count for group in self.instances)
        return hourly * (self.billable_seconds + (self.kept_seconds or 0)) / 3600

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.status} ({self.secondary_status})", *failure(self)]
        rows = {
            "created": when(self.created),
            "duration": seconds(self.duration),
            "hosts": hosts(self) + (", spot" if self.spot else ""),
            "warm pool": f"{self.warm_pool}, kept for {seconds(self.kept_seconds)}" if self.warm_pool else None,
            "cost": _cost(self),
            "image": self.image,
            "checkpoints": self.checkpoints,
            "model": self.model,
            "output": self.output,
            "tags": None if self.tags is None else ", ".join(f"{key}={value}" for key, value in self.tags.items()),
            "metrics": ", ".join(f"{name}={value:.6g}" for name, value in self.metrics.items()),
            "console": console_link(self.name, self.region),
            "log": log_link(self.name, self.region),
        }
        lines += [f"{name:<12} {redact(one_line(value))}" for name, value in rows.items() if value]
        lines += ["status:"] * bool(self.transitions)
        lines += [
            f"    {when(one.began)}  {seconds(_between(one.began, one.ended)):>10}  {one.status:<24}"
            f" {redact(one_line(one.message))}".rstrip()
            for one in self.transitions
        ]
        return "\n".join(lines)

    __repr__ = __str__


def read(found: Mapping[str, Any], region: str) -> Job:
    """Read an answer to ``DescribeTrainingJob`` in a region."""
    resources, output = found.get("ResourceConfig", {}), found.get("OutputDataConfig", {}).get("S3OutputPath")
    groups = resources.get("InstanceGroups") or ([resources] if "InstanceType" in resources else [])
    started, ended = found.get("TrainingStartTime"), found.get("TrainingEndTime")
    duration = None if started is None else _between(started, ended)
    name, pool = found["TrainingJobName"], found.get("WarmPoolStatus", {})
    return Job(
        name=name,
        arn=found["TrainingJobArn"],
        region=region,
        status=found["TrainingJobStatus"],
        secondary_status=found.get("SecondaryStatus", ""),
        created=found["CreationTime"],
        started=started,
        ended=ended,
        duration=duration,
        billable_seconds=found.get("BillableTimeInSeconds", duration),
        warm_pool=pool.get("Status"),
        kept_seconds=pool.get("ResourceRetainedBillableTimeInSeconds"),
        instances=tuple(Instances(group["InstanceType"], group.get("InstanceCount", 1)) for group in groups),
        spot=bool(found.get("EnableManagedSpotTraining")),
        image=found.get("AlgorithmSpecification", {}).get("TrainingImage"),
        failure_reason=redact(found["FailureReason"]) if found.get("FailureReason") else None,
        checkpoints=found.get("CheckpointConfig", {}).get("S3Uri"),
        model=found.get("ModelArtifacts", {}).get("S3ModelArtifacts"),
        output=f"{output.rstrip('/')}/{name}/output/" if output else None,
        metrics={one["MetricName"]: one["Value"] for one in found.get("FinalMetricDataList", ())},
        transitions=tuple(
            Transition(one["Status"], one["StartTime"], one.get("EndTime"), one.get("StatusMessage", ""))
            for one in found.get("SecondaryStatusTransitions", ())
        ),
    )


def failure(job: Job) -> list[str]:
    """Lines that say why a job failed; this package's failure file has several, with host, rank and frames."""
    first, *others = (job.failure_reason or "").splitlines() or [""]
    return [f"FailureReason: {printable(first)}", *(f"    {printable(line)}" for line in others)] if first else []


def hosts(job: Job) -> str:
    """Numbers and types of a job's hosts, for people."""
    return " + ".join(f"{group.count} x {group.type}" for group in job.instances) or "-"


def when(moment: datetime) -> str:
    """A moment as text, to the second."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def seconds(number: int | None) -> str:
    """A number of seconds as hours, minutes and seconds."""
    if number is None:
        return "-"
    minutes, rest = divmod(number, 60)
    return f"{minutes // 60}h {minutes % 60:02}m {rest:02}s" if minutes >= 60 else f"{minutes}m {rest:02}s"  # noqa: PLR2004


def console_link(name: str, region: str) -> str:
    """Page of a job in the console."""
    return f"{_console(region)}/sagemaker/home?region={region}#/jobs/{name}"


def log_link(name: str, region: str) -> str:
    """The console's page with a job's log streams."""
    group = LOG_GROUP.replace("/", "$252F")  # the page encodes twice, with $ for %
    filtered = f"$3FlogStreamNameFilter$3D{name}$252F"
    return f"{_console(region)}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}{filtered}"


def _console(region: str) -> str:
    own = (domain for begin, domain in _DOMAINS.items() if region.startswith(begin))
    return f"https://{region}.console.{next(own, 'aws.amazon.com')}"


def _between(begin: datetime, end: datetime | None) -> int:
    return max(int(((end or datetime.now(timezone.utc)) - begin).total_seconds()), 0)


def _cost(job: Job) -> str:
    if job.billable_seconds is None:
        return "nothing" if job.has_ended else "nothing yet"
    so_far = " so far, without spot's discount" if job.spot else " so far"
    if job.has_ended and job.warm_pool != "Available":
        so_far = ""
    time = f"{job.billable_seconds + (job.kept_seconds or 0)} s x {job.hosts or 'unknown'} host(s)"
    if job.cost is None:
        return f"{time}{so_far}; the price is unknown: {job.price_unknown or 'AWS names no instance type'}"
    prices = ", ".join(f"{kind} ${price:.4g}/h" for kind, price in job.prices.items())
    return f"${job.cost:,.2f}{so_far} ({time}, on demand: {prices})"
