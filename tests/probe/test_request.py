"""The job that is sent, as a real moto server receives it from the real SDKs."""

from __future__ import annotations

import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from ..submit.aws import BUCKET, ROLE, SDKS, Aws, sdk_python  # noqa: TID252 - importmode=importlib
from ..submit.aws import aws as aws  # noqa: PLC0414, TID252 - a fixture

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")


def probe(aws: Aws, sdk: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    common = ("--role", ROLE, "--region", "us-east-1", "--output-uri", f"s3://{BUCKET}/probe")
    return subprocess.run(
        [
            *(str(sdk_python(sdk)), "-m", "lightning_sagemaker.cli", "probe", *common, *map(str, arguments)),
            *("--output", str(folder / "report.json")),
        ],
        env=aws.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.mark.parametrize("sdk", SDKS)
def test_a_short_cheap_job_of_two_hosts_is_sent_with_the_wheel(aws: Aws, tmp_path: Path, sdk: str) -> None:
    wheel = tmp_path / "lightning_sagemaker-9.9-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    before = len(aws.requests())
    done = probe(aws, sdk, tmp_path, "--instance-type", "ml.p4d.24xlarge", "--requirement", wheel)
    (made,) = aws.requests()[before:]
    # moto's jobs end at once and write no log: that nothing was heard is told, and nothing is reported.
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no line of a probing job was found" in done.stderr
    assert f"{made['TrainingJobName']}: Completed" in done.stdout
    assert not (tmp_path / "report.json").exists()

    assert made["TrainingJobName"].startswith("lightning-sagemaker-probe-")
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800}
    resources = made["ResourceConfig"]
    assert (resources["InstanceCount"], resources["VolumeSizeInGB"]) == (2, 5)
    image = made["AlgorithmSpecification"]["TrainingImage"]
    given = made["HyperParameters"]
    if sdk == "v2":
        assert ":2.5.1-gpu" in image  # the last with SMDDP
        assert json.loads(given["sagemaker_distributed_dataparallel_enabled"]) is True
        assert json.loads(given["sagemaker_program"]) == "probe.py"
    else:
        assert ":2.8.0-gpu" in image
    assert _names(aws, sdk, made, tmp_path / "source") == {"probe.py", "requirements.txt", wheel.name}


def _names(aws: Aws, sdk: str, made: dict[str, Any], folder: Path) -> set[str]:
    folder.mkdir()
    if sdk == "v2":
        (archive,) = aws.download(json.loads(made["HyperParameters"]["sagemaker_submit_directory"]), folder)
        with tarfile.open(archive) as tar:
            return set(tar.getnames()) - {""}
    channels = {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in made["InputDataConfig"]}
    return {path.name for path in aws.download(channels["code"], folder)}


def test_a_dry_run_and_a_job_that_a_check_refuses_send_nothing(aws: Aws, tmp_path: Path) -> None:
    before = len(aws.requests())
    dry = probe(aws, "v3", tmp_path, "--instance-type", "ml.g5.12xlarge", "--launcher", "none", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "max_run             1800" in dry.stdout
    refused = probe(aws, "v3", tmp_path, "--instance-type", "ml.g5.12xlarge", "--subnet", "subnet-1")
    assert refused.returncode == 1
    assert "Not sent: a check has failed." in refused.stderr
    assert "fail     VPC" in refused.stdout
    assert len(aws.requests()) == before
