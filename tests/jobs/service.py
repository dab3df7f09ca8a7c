"""What moto lacks of SageMaker, CloudWatch Logs and the price API: states, a log that grows, refusals, pages."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from ..submit.aws import JsonAnswers  # noqa: TID252 - importmode=importlib

REGION = "us-east-1"
NOON = 1_780_000_000  # a moment, in seconds
THROTTLED = {"__type": "ThrottlingException", "message": "Rate exceeded"}
DENIED = {"__type": "AccessDeniedException", "message": "User: arn:aws:iam::123456789012:user/me is not authorized"}
NOT_FOUND = {"__type": "ValidationException", "message": "Requested resource not found."}  # in SageMaker's words
GONE = {"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."}

Answer = tuple[int, Any]


class Written(NamedTuple):
    """A line of a log.

    Attributes:
        at: Milliseconds.
        text: The line.
        after: So many times was the job asked for before it is there.
    """

    at: int
    text: str
    after: int = 0


def described(name: str, status: str = "Completed", **changes: Any) -> dict[str, Any]:
    """A job as SageMaker describes it."""
    found = {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:123456789012:training-job/{name}",
        "TrainingJobStatus": status,
        "SecondaryStatus": "Training" if status == "InProgress" else status,
        "CreationTime": NOON,
        "ResourceConfig": {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 2, "VolumeSizeInGB": 100},
        "ModelArtifacts": {"S3ModelArtifacts": f"s3://bucket/runs/{name}/output/model.tar.gz"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/runs"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def product(kind: str, price: str, use: str = "Train", unit: str = "Hrs") -> str:
    """A product as the price API tells of it."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": price}}
    return json.dumps(
        {
            "product": {"attributes": {"instanceName": kind, "usagetype": f"USE1-{use}:{kind}", "regionCode": REGION}},
            "terms": {"OnDemand": {"X.Y": {"priceDimensions": {"X.Y.Z": dimension}}}},
        }
    )


@dataclass
class World:
    """What the services know, and what they were asked.

    Attributes:
        jobs: States of each job, one after the other; the last one stays. The newest job comes first.
        streams: Lines of each log stream.
        refusals: What each operation answers first.
        products: What the price API tells.
        page: Items in one answer.
        silent: Whether an answer without a token has no lines, as CloudWatch may do.
        asked: Operations with what they were asked.
        signed: By whom, the last time.
    """

    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    streams: dict[str, list[Written]] = field(default_factory=dict)
    refusals: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    products: list[str] = field(default_factory=list)
    page: int = 2
    silent: bool = False
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    signed: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *jobs: dict[str, Any]) -> None:
        """Add jobs that stay as they are."""
        self.jobs.update({one["TrainingJobName"]: [one] for one in jobs})

    def times(self, operation: str) -> int:
        """How often it was asked."""
        return [name for name, _ in self.asked].count(operation)


class Service(JsonAnswers):
    """Answers as these services do."""

    world: ClassVar[World]

    def answer(self, operation: str, body: dict[str, Any]) -> Answer:
        with self.world.lock:  # of several threads
            self.world.asked.append((operation, body))
            self.world.signed = self.headers["Authorization"]
            if refusals := self.world.refusals.get(operation):
                return 400, refusals.pop(0)
            return getattr(self, operation)(body)  # type: ignore[no-any-return]

    def DescribeTrainingJob(self, body: dict[str, Any]) -> Answer:  # noqa: N802 - AWS's name, as all that follow
        states = self.world.jobs.get(body["TrainingJobName"])
        if states is None:
            return 400, NOT_FOUND
        return 200, states.pop(0) if len(states) > 1 else states[0]

    def ListTrainingJobs(self, body: dict[str, Any]) -> Answer:  # noqa: N802
        assert (body["SortBy"], body["SortOrder"]) == ("CreationTime", "Descending")
        found = [
            {key: states[0][key] for key in ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")}
            for name, states in self.world.jobs.items()
            if body.get("NameContains", "") in name
            and body.get("StatusEquals") in (None, states[0]["TrainingJobStatus"])
        ]
        return 200, self._paged("TrainingJobSummaries", found, body, "NextToken")

    def ListTags(self, body: dict[str, Any]) -> Answer:  # noqa: N802
        assert body["ResourceArn"].startswith("arn:aws:sagemaker:")
        tags = [{"Key": key, "Value": value} for key, value in (("team", "vision"), ("owner", "me"), ("run", "7"))]
        return 200, self._paged("Tags", tags, body, "NextToken")

    def StopTrainingJob(self, body: dict[str, Any]) -> Answer:  # noqa: N802
        name = body["TrainingJobName"]
        stopped = described(name, "Stopped")
        self.world.jobs[name] = [described(name, "Stopping"), described(name, "Stopping"), stopped]
        return 200, {}

    def GetProducts(self, body: dict[str, Any]) -> Answer:  # noqa: N802
        wanted = {one["Field"]: one["Value"] for one in body["Filters"]}
        found = [
            text for text in self.world.products if wanted.items() <= json.loads(text)["product"]["attributes"].items()
        ]
        return 200, {"FormatVersion": "aws_v1", **self._paged("PriceList", found, body, "NextToken")}

    def DescribeLogStreams(self, body: dict[str, Any]) -> Answer:  # noqa: N802
        assert body["logGroupName"] == "/aws/sagemaker/TrainingJobs"
        names = [name for name in self.world.streams if self._lines(name)]
        if not names:
            return 400, GONE
        found = [{"logStreamName": name} for name in names if name.startswith(body["logStreamNamePrefix"])]
        return 200, self._paged("logStreams", found, body, "nextToken")

    def GetLogEvents(self, body: dict[str, Any]) -> Answer:  # noqa: N802
        lines = [line for line in self._lines(body["logStreamName"]) if line.at >= body.get("startTime", 0)]
        token, size = body.get("nextToken"), min(self.world.page, body.get("limit", 10_000))
        if token is None and body["startFromHead"] and self.world.silent:
            return 200, {"events": [], "nextForwardToken": "f/0", "nextBackwardToken": "b/0"}
        if token is None:
            begin = 0 if body["startFromHead"] else max(len(lines) - size, 0)
            end = min(begin + size, len(lines))
        elif token.startswith("f/"):
            assert body["startFromHead"], "as the documentation demands of a forward token"
            begin = int(token[2:])
            end = min(begin + size, len(lines))
        else:
            end = int(token[2:])
            begin = max(end - size, 0)
        events = [{"timestamp": line.at, "message": line.text} for line in lines[begin:end]]
        return 200, {"events": events, "nextForwardToken": f"f/{end}", "nextBackwardToken": f"b/{begin}"}

    def _lines(self, stream: str) -> list[Written]:
        return [line for line in self.world.streams[stream] if line.after <= self.world.times("DescribeTrainingJob")]

    def _paged(self, key: str, items: list[Any], body: dict[str, Any], token: str) -> dict[str, Any]:
        begin = int(body.get(token, 0))
        end = begin + self.world.page
        return {key: items[begin:end], **({token: str(end)} if end < len(items) else {})}
