"""Checks that ask AWS, against a real moto server: what is wrong is found, and what may not be asked is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .aws import BUCKET, ROLE, Aws, Run
from .test_sdks import OPEN, VPC

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")
JOB = ("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--sdk", "v2", "--dry-run")


def check(aws: Aws, script: Path, *arguments: str, **environ: str) -> Run:
    return aws.submit("v2", (script, *JOB, *arguments), **environ)[0]


def line(run: Run, name: str) -> str:
    (found,) = [text for text in run.out.splitlines() if text[6:].startswith(name)]
    return found


def test_a_security_group_that_shuts_itself_out_fails_with_the_command_that_mends_it(aws: Aws, script: Path) -> None:
    subnet, group = aws.python(VPC)
    run = check(aws, script, "--subnet", subnet, "--security-group", group)
    assert run.code == 1
    found = line(run, "security groups")
    assert found.startswith("fail")
    assert f"{group}: no rule allows all inbound traffic between them" in found
    assert f"HINT: aws ec2 authorize-security-group-ingress --group-id {group} --ip-permissions" in found
    assert "Not sent: a check has failed" in run.err


def test_an_open_security_group_passes_and_one_of_another_vpc_fails(aws: Aws, script: Path) -> None:
    subnet, group = aws.python(VPC + OPEN)
    assert line(check(aws, script, "--subnet", subnet, "--security-group", group), "security groups").startswith("ok")
    other, _ = aws.python(VPC + OPEN)
    run = check(aws, script, "--subnet", other, "--security-group", group)
    assert run.code == 1
    assert "they lie in different VPCs" in line(run, "subnets")


def test_a_group_without_outbound_rules_fails(aws: Aws, script: Path) -> None:
    anywhere = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    shut = f"ec2.revoke_security_group_egress(GroupId=group, IpPermissions={anywhere})\n"
    subnet, group = aws.python(VPC + OPEN + shut)
    run = check(aws, script, "--subnet", subnet, "--security-group", group)
    assert run.code == 1
    assert "no rule allows all outbound traffic" in line(run, "security groups")


def test_what_does_not_exist_fails_by_name(aws: Aws, script: Path) -> None:
    run = check(
        aws,
        script,
        *("--subnet", "subnet-0123456789abcdef0", "--security-group", "sg-0123456789abcdef0"),
        *("--role", "Absent", "--output-uri", "s3://absent-bucket/out"),
    )
    assert run.code == 1
    for name in ("security groups", "subnets", "role", "s3://absent-bucket/out"):
        assert line(run, name).startswith("fail")
        assert "not found" in line(run, name)


def test_a_role_that_sagemaker_may_not_take_fails(aws: Aws, script: Path) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    aws.python(f"boto3.client('iam').create_role(RoleName='Other', AssumeRolePolicyDocument={policy!r})")
    run = check(aws, script, "--role", "Other")
    assert run.code == 1
    assert "does not trust sagemaker.amazonaws.com, but ec2.amazonaws.com" in line(run, "role")
    assert line(check(aws, script, "--role", ROLE), "role").startswith("ok")


def test_an_empty_channel_fails_and_a_used_checkpoint_folder_of_a_spot_job_warns(aws: Aws, script: Path) -> None:
    aws.python(f"boto3.client('s3').put_object(Bucket={BUCKET!r}, Key='used/last.ckpt', Body=b'1')")
    run = check(
        aws, script, "--channel", f"train=s3://{BUCKET}/nothing", "--spot", "--checkpoint-uri", f"s3://{BUCKET}/used"
    )
    assert run.code == 1
    assert "nothing lies under this channel's prefix" in line(run, f"s3://{BUCKET}/nothing")
    used = line(run, f"s3://{BUCKET}/used")
    assert used.startswith("warn")
    assert "training continues from the newest checkpoint" in used


def test_what_may_not_be_asked_warns_with_the_permission_that_is_missing(aws: Aws, script: Path) -> None:
    subnet, group = aws.python(VPC + OPEN)
    secret = aws.python(
        "iam = boto3.client('iam')\niam.create_user(UserName='nobody')\n"
        "key = iam.create_access_key(UserName='nobody')['AccessKey']\n"
        "result = [key['AccessKeyId'], key['SecretAccessKey']]"
    )
    aws.authorize(after=0)
    try:
        run = check(
            aws,
            script,
            *("--subnet", subnet, "--security-group", group, "--role", ROLE, "--output-uri", f"s3://{BUCKET}/out"),
            AWS_ACCESS_KEY_ID=secret[0],
            AWS_SECRET_ACCESS_KEY=secret[1],
        )
    finally:
        aws.authorize(after=None)
    assert run.code == 0, run.out + run.err
    for name, action in (
        ("security groups", "ec2:DescribeSecurityGroups"),
        ("role", "iam:GetRole"),
        (f"s3://{BUCKET}/out", "s3:ListBucket"),
    ):
        assert line(run, name).startswith("warn")
        assert f"not checked: {action} is denied" in line(run, name)
