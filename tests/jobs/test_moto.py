"""A job's life at a server that is not of these tests' making, as far as moto plays it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ..submit.aws import BUCKET, ROLE, Aws  # noqa: TID252 - importmode=importlib
from .conftest import Console, command
from .test_downloads import MODEL, PUT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")

NAME = "life-of-a-job"
MAKE = f"""
import boto3
boto3.client("sagemaker").create_training_job(
    TrainingJobName={NAME!r},
    RoleArn={ROLE!r},
    AlgorithmSpecification={{"TrainingImage": "image", "TrainingInputMode": "File"}},
    OutputDataConfig={{"S3OutputPath": "s3://{BUCKET}/life"}},
    ResourceConfig={{"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 5}},
    StoppingCondition={{"MaxRuntimeInSeconds": 60}},
    Tags=[{{"Key": "team", "Value": "vision"}}],
)
logs, group = boto3.client("logs"), "/aws/sagemaker/TrainingJobs"
try:
    logs.create_log_group(logGroupName=group)
except logs.exceptions.ResourceAlreadyExistsException:
    pass
import time
begin = int(time.time() * 1000)
for host, lines in (("algo-1", range(0, 40, 2)), ("algo-2", range(1, 40, 2))):
    stream = f"{NAME}/{{host}}-1780"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    events = [{{"timestamp": begin + number, "message": f"line {{number}}"}} for number in lines]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
"""


def test_a_job_is_listed_shown_read_followed_and_fetched(aws: Aws, console: Console, tmp_path: Path) -> None:
    model = {f"life/{NAME}/output/model.tar.gz": MODEL.decode("latin-1")}
    for program in (MAKE, PUT.format(objects=json.dumps(model), bucket=BUCKET)):
        run = console.python(program, tmp_path, aws.url)
        assert run.code == 0, run.err

    def out(*arguments: object) -> list[str]:
        run = console.python(command(*arguments), tmp_path, aws.url)
        assert (run.code, run.err) == (0, "")
        return run.out.splitlines()

    _, row = out("list", "--all", "--status", "Completed", "--name-contains", "life-of")
    assert row.startswith(f"{NAME}  Completed  ")
    shown = out("show", "life-")
    assert shown[0] == f"{NAME}: Completed (Completed)"
    assert "tags         team=vision" in shown
    assert "metrics      train:progress=100" in shown
    lines = [f"[algo-{number % 2 + 1}] line {number}" for number in range(40)]
    assert out("logs", NAME) == lines
    assert out("logs", NAME, "--tail", 7) == lines[-7:]
    assert out("logs", NAME, "--follow", "--tail", 3)[:3] == lines[-3:]
    assert out("stop", NAME) == [f"{NAME}: not stopped, it has ended already: Completed"]
    assert out("download", NAME)[1:] == [f"{len(MODEL)} B  {NAME}/model.tar.gz, unpacked in {NAME}/model"]
    assert (tmp_path / NAME / "model" / "model.ckpt").read_text() == "weights"
