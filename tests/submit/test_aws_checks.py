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
    (found,) = [text for text in run.out.splitlines() if text[9:].startswith(name)]
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


def test_what_may_not_be_asked_is_unknown_with_the_permission_that_is_missing(aws: Aws, script: Path) -> None:
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
        assert line(run, name).startswith("unknown")
        assert f"not checked: {action} is denied" in line(run, name)


# Options, variables (one without a value is taken away), the check, and what it says.
WRONG: dict[str, tuple[tuple[str, ...], dict[str, str], str, str]] = {
    "a type with a typo": (("--instance-type", "ml.p4d.24xlarg"), {}, "instance type", "HINT: ml.p4d.24xlarge"),
    "no such region": (("--region", "eu-west-9"), {}, "region", "eu-west-9 is none that boto3 knows"),
    "no region": ((), {"AWS_DEFAULT_REGION": ""}, "region", "none is configured"),
    "no credentials": (
        (),
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nowhere"},
        "identity",
        "there are no AWS credentials",
    ),
    "too many retries": (("--retries", "99"), {}, "retries", "99, but SageMaker takes 1 to 30"),
    "no such image": (("--torch", "9.9.9"), {}, "image", "'9.9.9'; its newest are"),
    "a strategy with a typo": (("--strategy", "dpp"), {}, "strategy", "Lightning has no strategy 'dpp'. HINT: "),
    "another SDK than is installed": (("--sdk", "v3"), {}, "SDK", "SDK v2 is installed. HINT: pip install"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_job_that_cannot_be_sent_fails_in_the_dry_run(aws: Aws, script: Path, mistake: str) -> None:
    options, environ, name, text = WRONG[mistake]
    run = check(aws, script, *options, **environ)
    assert run.code == 1, run.out + run.err
    failed = [one for one in run.out.splitlines() if one.startswith("fail") and one[9:].startswith(name)]
    assert text in failed[0]


def test_a_good_job_passes_and_says_who_sends_which_image(aws: Aws, script: Path) -> None:
    run = check(aws, script, "--role", ROLE)
    assert run.code == 0, run.out + run.err
    assert line(run, "identity").startswith("ok       identity")
    assert "arn:aws:" in line(run, "identity")
    assert "/pytorch-training:" in line(run, "image")


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_regions_of_other_partitions_are_known(aws: Aws, script: Path, region: str) -> None:
    run = check(aws, script, "--region", region)
    assert not [one for one in run.out.splitlines() if one[9:].startswith("region")]
    assert region in line(run, "identity")


def test_what_is_unknown_counts_as_failed_where_asked(aws: Aws, script: Path) -> None:
    own = ("--strategy", "the-script-registers-this-one")
    plain, strict = aws.submit("v2", (script, *JOB, *own), (script, *JOB, *own, "--strict"))
    assert (plain.code, strict.code) == (0, 1)
    assert line(strict, "strategy").startswith("unknown")
    assert "Not sent: a check has failed or could not be made" in strict.err


def test_a_profile_that_does_not_exist_is_one_line(aws: Aws, script: Path) -> None:
    run = check(aws, script, AWS_PROFILE="nope")
    assert run.code == 2
    (line,) = run.err.splitlines()
    assert line.startswith("lightning-sagemaker submit: error: ProfileNotFound: The config profile (nope) could not be")
    assert "HINT: `aws configure list-profiles`" in line
