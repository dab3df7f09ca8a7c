"""A person's mistakes: one or two lines with the fix, and no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .aws import BUCKET, ROLE, Aws

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")
TYPE = ("--instance-type", "ml.g5.xlarge")
GOOD = (*TYPE, "--role", ROLE, "--image", "mine:1", "--output-uri", f"s3://{BUCKET}/out")
P4D = (*GOOD, "--instance-type", "ml.p4d.24xlarge")
SPOT = ("--spot", "--checkpoint-uri", f"s3://{BUCKET}/c")
NOBODY = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nowhere"}

# Options without and with which the job would be good, variables, exit code, and what is said.
MISTAKES: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
    ((), {}, 2, "neither an instance type nor instance groups"),
    (("--bogus",), {}, 2, "unrecognized arguments: --bogus"),
    ((*GOOD, "--instance-count", "two"), {}, 2, 'key "instance_count"'),
    ((*GOOD, "--instance-count"), {}, 2, "expected one argument"),
    ((*GOOD, "--instance-count", "0"), {}, 2, "`instance_count` is 0; expected a whole number of 1 or more"),
    (
        (*GOOD, "--instance-type", "g5.xlarge"),
        {},
        2,
        "Instance type 'g5.xlarge'; expected one such as 'ml.p4d.24xlarge'. HINT: SageMaker's types begin with 'ml.'",
    ),
    ((*GOOD, "--instance-type", "ml.g5.xlarg"), {}, 1, "InstanceType ml.g5.xlarg is not a value that boto3"),
    ((*GOOD, "--instance-type", "ml.p4d.24xlarg"), {}, 1, "HINT: ml.p4d.24xlarge"),
    ((*GOOD, "--launcher", "slurm"), {}, 2, "slurm"),
    ((*GOOD, "--launcher", "none", "--processes-per-host", "4"), {}, 2, "without a launcher SageMaker starts one"),
    ((*GOOD, "--env", "A"), {}, 2, "'A', which is not set in this environment"),
    ((*GOOD, "--env", "A B=1"), {}, 2, "environment variable is named 'A B'"),
    ((*GOOD, "--env", "=1"), {}, 2, "environment variable is named ''"),
    ((*GOOD, "--channel", "train"), {}, 2, "--channel is 'train', expected a name, =, and a value"),
    ((*GOOD, "--channel", "train=data"), {}, 2, "'data' is not an S3 URI"),
    ((*GOOD, "--channel", "../x=s3://b/c"), {}, 2, "channel is named '../x'"),
    ((*GOOD, "--network-isolation", "--channel", "code=s3://b/c"), {}, 2, "A channel is named 'code'"),
    ((*GOOD, "--channel", "train=s3://absent-bucket/x"), {}, 1, "not found"),
    ((*GOOD, "--set", "A"), {}, 2, "--set is 'A', expected a name"),
    ((*GOOD, "--set", "A=x"), {}, 2, "which is not JSON"),
    ((*GOOD, "--set", "Nonsense=1"), {}, 1, "Unknown parameter in input"),
    ((*GOOD, "--set", 'InputDataConfig.0.InputMode="Pipe"', "--channel", "a=s3://b/c"), {}, 2, "is a list"),
    ((*GOOD, "--set", 'RoleArn.x="Pipe"'), {}, 2, "`set` has RoleArn.x, but RoleArn of the request is a text"),
    ((*GOOD, "--set", "HyperParameters=null"), {}, 1, "Invalid type for parameter HyperParameters, value: None"),
    ((*GOOD, "--set", "Environment=3"), {}, 1, "Invalid type for parameter Environment, value: 3"),
    ((*GOOD, "--set", "ResourceConfig=[]"), {}, 1, "Invalid type for parameter ResourceConfig"),
    ((*GOOD, "--set", 'InputDataConfig=[1, {"DataSource": 2}]'), {}, 1, "Invalid type for parameter InputDataConfig"),
    ((*GOOD, "--set", "ResourceConfig.InstanceCount=0"), {}, 2, "`instance_count` is 0"),
    ((*GOOD, "--set", "ResourceConfig.InstanceCount=64"), {}, 1, "fail quota this account may use 4 ml.g5.xlarge"),
    (
        (*GOOD, "--set", 'ResourceConfig.InstanceType="ml.p4d.24xlarge"', "--processes-per-host", "9"),
        {},
        1,
        "9 processes on each ml.p4d.24xlarge",
    ),
    ((*GOOD, "--set", "EnableManagedSpotTraining=true"), {}, 1, "an interruption loses the run"),
    ((*GOOD, "--set", 'RoleArn="arn:aws:iam::123456789012:role/Absent"'), {}, 1, "Role Absent not found"),
    ((*GOOD, "--set", 'CheckpointConfig.S3Uri="s3://absent-bucket/x"'), {}, 1, "fail s3://absent-bucket/x not found"),
    ((*GOOD, "--set", 'Environment.PL_TRAINER_STRATEGY="dpp"'), {}, 1, "Lightning has no strategy 'dpp'"),
    ((*GOOD, "--env", "PL_TRAINER_STRATEGY=dpp"), {}, 1, "Lightning has no strategy 'dpp'"),
    (("--role", ROLE, "--instance-group", "gpu=ml.p4d.24xlarge:0"), {}, 2, "Instance group 'gpu' has 0 instances"),
    (
        ("--role", ROLE, "--instance-group", "gpu=ml.p4d.24xlarge:2", "--instance-count", "4"),
        {},
        2,
        "`instance_count` is 4, but instance groups have counts of their own",
    ),
    ((*TYPE, "--role", ROLE, "--torch", "9.9.9", "--strategy", "smddp"), {}, 1, "image 9.9.9 has no SMDDP"),
    ((*TYPE, "--role", ROLE, "--torch", "9.9.9"), {}, 1, "AWS publishes no PyTorch training image '9.9.9'"),
    ((*TYPE, "--role", ROLE, "--torch", "newest"), {}, 2, "Version of torch 'newest'"),
    ((*TYPE, "--role", ROLE), {}, 1, "--image with a URI, or pip install sagemaker"),
    ((*TYPE, "--image", "mine"), {}, 1, "--role, or pip install sagemaker"),
    ((*GOOD, "--role", "Absent"), {}, 1, "not found: Role Absent not found"),
    ((*GOOD, "--role", ROLE.replace("123456789012", "999999999999")), {}, 1, "is none of this account, 123456789012"),
    ((*GOOD, "--channel", "a=s3://b/c", "--channel", "a=s3://b/d"), {}, 2, "--channel has 'a' twice, with two values"),
    ((*GOOD, "--region", "eu-west-9"), {}, 1, "fail region eu-west-9 is not a region that boto3 knows"),
    (GOOD, {"AWS_DEFAULT_REGION": ""}, 1, "fail region none is configured"),
    (GOOD, NOBODY, 1, "fail identity There are no usable credentials for AWS"),
    (GOOD, {"AWS_PROFILE": "nope"}, 2, "aws configure list-profiles"),
    ((*GOOD, "--profile", "nope"), {}, 2, "aws configure list-profiles"),
    ((*GOOD, "--strict"), {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 1, "not checked"),
    ((*GOOD, "--strategy", "dpp"), {}, 1, "fail strategy Lightning has no strategy 'dpp'. HINT: "),
    ((*GOOD, "--retries", "99"), {}, 1, "fail RetryStrategy.MaximumRetryAttempts 99, but SageMaker takes 1 to 30"),
    ((*P4D, "--instance-count", "9"), {}, 1, "fail quota this account may use 8 ml.p4d.24xlarge for training"),
    ((*P4D, "--instance-count", "5", *SPOT), {}, 1, "fail quota this account may use 4 ml.p4d.24xlarge for spot"),
    ((*P4D, "--processes-per-host", "16"), {}, 1, "fail world 16 processes on each ml.p4d.24xlarge"),
    ((*GOOD, "--spot"), {}, 1, "an interruption loses the run"),
    ((*GOOD, "--max-wait", "5"), {}, 2, "`max_wait` is 5 s; expected at least"),
    ((*GOOD, "--subnet", "subnet-1"), {}, 1, "a VPC without security groups"),
    ((*GOOD, "--name", "no_underscores"), {}, 2, "Name 'no_underscores'; expected at most 39 letters"),
    ((*GOOD, "--requirement", "absent.whl"), {}, 2, "There is no wheel 'absent.whl'"),
    ((*GOOD, "--source-dir", "tests"), {}, 2, "is not in the source folder '"),
    ((*GOOD, "--config", "absent.yaml"), {}, 2, "absent.yaml"),
    ((*GOOD, "--config", "pyproject.toml"), {}, 2, "config"),
    ((*GOOD, "--config", "/bin/sh"), {}, 2, "the file of --config is no UTF-8 text"),
    ((*GOOD, "--local-channel", "train", "--simulate-first"), {}, 2, "--local-channel is 'train'"),
    ((*GOOD, "--as-notebook", "v4"), {}, 2, "v4"),
    ((*GOOD, "--as-notebook", "v2", "--", "fit"), {}, 2, "The script's arguments are ['fit']"),
]


def test_there_are_forty_of_them() -> None:
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: " ".join(mistake[0])[-40:])
def test_a_mistake_is_a_line_with_its_fix(
    aws: Aws, script: Path, mistake: tuple[tuple[str, ...], dict[str, str], int, str]
) -> None:
    options, environ, code, text = mistake
    at = options.index("--") if "--" in options else len(options)
    before, after = options[:at], options[at:]
    (run,) = aws.run((script, *before, "--dry-run", *after), **environ)
    assert run.code == code, run.out + run.err
    assert text in " ".join((run.out + run.err).split())
    assert "HINT: " in run.out + run.err
    assert "Traceback" not in run.out + run.err
    assert len(run.err.splitlines()) == 1, run.err
    assert "--debug" not in run.err
