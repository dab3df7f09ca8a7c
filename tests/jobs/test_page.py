"""docs/jobs.md is run: its commands against a service with the jobs that it names, and what it shows is compared."""

from __future__ import annotations

import json
import re
import shlex
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from ..submit.aws import BUCKET, ROOT, Aws  # noqa: TID252 - importmode=importlib
from .conftest import Console, command
from .service import World, Written, described, product
from .test_downloads import PUT, packed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
REASON = (
    "AlgorithmError: ValueError: the column 'age' is missing\n[algo-2, rank 1]\n"
    '  /opt/ml/code/train.py:31 in prepare_data: raise ValueError(f"the column {name!r} is missing")'
)


def at(day: int, hour: int, minute: int = 0, second: int = 0) -> int:
    month = 11 if day == 30 else 12
    return int(datetime(2026, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp())


@pytest.fixture
def run(world: World, url: str, aws: Aws, console: Console, tmp_path: Path) -> Callable[[str], Any]:
    """Run a program where the page's jobs are."""
    hosts = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}
    s3 = f"s3://{BUCKET}"
    world.add(
        described(
            "digits-20261201093000",
            "InProgress",
            CreationTime=at(1, 9, 30),
            ResourceConfig=hosts,
            SecondaryStatus="Downloading",
        ),
        described(
            "digits-20261130180000",
            "Failed",
            FailureReason=REASON,
            CreationTime=at(30, 18),
            TrainingStartTime=at(30, 18, 2),
            TrainingEndTime=at(30, 19, 4, 5),
            BillableTimeInSeconds=1800,
            ResourceConfig=hosts,
            EnableManagedSpotTraining=True,
            OutputDataConfig={"S3OutputPath": f"{s3}/runs"},
            ModelArtifacts={"S3ModelArtifacts": f"{s3}/runs/digits-20261130180000/output/model.tar.gz"},
            CheckpointConfig={"S3Uri": f"{s3}/checkpoints"},
            FinalMetricDataList=[{"MetricName": "val_loss", "Value": 0.25, "Timestamp": at(30, 19)}],
            SecondaryStatusTransitions=[
                {
                    "Status": "Starting",
                    "StartTime": at(30, 18),
                    "EndTime": at(30, 18, 2),
                    "StatusMessage": "Launching requested ML instances",
                },
                {
                    "Status": "Training",
                    "StartTime": at(30, 18, 2),
                    "EndTime": at(30, 19, 4, 5),
                    "StatusMessage": "Training image download completed.",
                },
            ],
        ),
        described(
            "speech-20261130120000",
            CreationTime=at(30, 12),
            TrainingStartTime=at(30, 12, 5),
            TrainingEndTime=at(30, 12, 25),
            ResourceConfig=hosts | {"InstanceCount": 1},
            OutputDataConfig={"S3OutputPath": f"{s3}/runs"},
            ModelArtifacts={"S3ModelArtifacts": f"{s3}/runs/speech-20261130120000/output/model.tar.gz"},
        ),
    )
    world.products = [product("ml.g5.xlarge", "1.408")]
    world.streams = {
        f"digits-20261130180000/algo-{host}-1780": [
            Written(at(30, 18, minute) * 1000, f"epoch {minute // 20} of 30") for minute in (20, 40)
        ]
        for host in (1, 2)
    }
    failed = Written(at(30, 19) * 1000, "ValueError: the column 'age' is missing")
    world.streams["digits-20261130180000/algo-2-1780"].append(failed)

    def run(program: str) -> Any:
        return console.python(
            program,
            tmp_path,
            url,
            AWS_ENDPOINT_URL_S3=aws.url,
        )

    content = packed(("file", "content"), mode="w").decode("latin-1")  # its size depends on no library
    keys = {f"runs/speech-20261130120000/output/{name}.tar.gz": content for name in ("model", "output")}
    assert run(PUT.format(objects=json.dumps(keys), bucket=BUCKET)).code == 0
    return run


def test_the_pages_commands_show_what_the_page_shows(run: Any) -> None:
    blocks = [(found[1], found[2]) for found in BLOCK.finditer(PAGE)]
    shown = 0
    for (kind, text), (after, expected) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        lines = [line for line in text.splitlines() if kind == "sh" and line.startswith("lightning-sagemaker jobs ")]
        runs = [run(command(*shlex.split(line)[2:])) for line in lines]
        for line, done in zip(lines, runs, strict=True):
            assert done.code == (1 if "--follow" in line else 0), f"{line}\n{done.err}"
        if lines and after == "text":
            assert runs[0].out == expected
            shown += 1
    assert shown == 5


def test_the_pages_python_runs(run: Any) -> None:
    (program,) = (text for kind, text in BLOCK.findall(PAGE) if kind == "python")
    done = run(program)
    assert (done.code, done.err) == (0, "")
    assert "ValueError: the column 'age' is missing\n[algo-2, rank 1]" in done.out
    assert "speech-20261130120000/model.tar.gz" in done.out
