"""Checks that ask AWS, against a real moto server: what is wrong is found, and what may not be asked is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.submit import TrainingJob, aws_checks, complete

from .aws import BUCKET, ROLE, SDKS, Aws, Run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")
JOB = (
    *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--dry-run"),
    *("--image", "mine:1", "--role", ROLE, "--output-uri", f"s3://{BUCKET}/out"),
)
VPC = """
ec2 = boto3.client("ec2")
vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
group = ec2.create_security_group(GroupName="training", Description="training", VpcId=vpc)["GroupId"]
itself = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
result = [subnet, group]
"""
OPEN = "ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=itself)\n"


def check(aws: Aws, script: Path, *arguments: str, **environ: str) -> Run:
    return aws.run((script, *JOB, *arguments), **environ)[0]


def line(run: Run, name: str) -> str:
    (found,) = [text for text in run.out.splitlines() if text[9:].startswith(name)]
    return found


def test_prices_are_asked_for_in_the_order_of_the_groups(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [f"ml.g5.{size}xlarge" for size in ("48", "12", "24", "8", "4", "2", "16")]
    asked: list[str] = []

    def prices(wanted: Iterable[str], _session: Any) -> tuple[dict[str, float], str]:
        asked.extend(wanted)
        return {}, "none"

    monkeypatch.setattr("lightning_sagemaker.jobs.aws.prices", prices)
    groups = {f"group-{number}": kind for number, kind in enumerate(kinds)}
    finding = aws_checks._check_cost(complete(TrainingJob(script, instance_groups=groups)), None)
    assert asked == kinds  # the first without a price is named
    assert finding.level == "unknown"


def test_a_security_group_that_shuts_itself_out_fails_with_the_command_that_mends_it(aws: Aws, script: Path) -> None:
    subnet, group = aws.boto3(VPC)
    run = check(aws, script, "--subnet", subnet, "--security-group", group)
    assert run.code == 1
    found = line(run, "security groups")
    assert found.startswith("fail")
    assert f"{group}: no rule allows all inbound traffic between them" in found
    assert f"HINT: aws ec2 authorize-security-group-ingress --group-id {group} --ip-permissions" in found
    assert "Not sent: a check has failed" in run.err


def test_an_open_security_group_passes_and_one_of_another_vpc_fails(aws: Aws, script: Path) -> None:
    subnet, group = aws.boto3(VPC + OPEN)
    assert line(check(aws, script, "--subnet", subnet, "--security-group", group), "security groups").startswith("ok")
    other, _ = aws.boto3(VPC + OPEN)
    run = check(aws, script, "--subnet", other, "--security-group", group)
    assert run.code == 1
    assert "they lie in different VPCs" in line(run, "subnets")


@pytest.mark.parametrize(
    ("kind", "rule", "level"),
    [
        ("ml.g5.xlarge", {"FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": "itself"}, "ok"),
        ("ml.m5.large", {"FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "ok"),
        ("ml.g5.xlarge", {"FromPort": 7777, "ToPort": 7777, "UserIdGroupPairs": "itself"}, "fail"),
        ("ml.p4d.24xlarge", {"FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": "itself"}, "fail"),  # EFA
        ("ml.p4d.24xlarge", {"FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "fail"),
    ],
)
def test_hosts_without_efa_need_no_more_than_tcp(aws: Aws, script: Path, kind: str, rule: Any, level: str) -> None:
    rule = json.dumps([rule | {"IpProtocol": "tcp"}]).replace('"itself"', "[{'GroupId': group}]")
    subnet, group = aws.boto3(f"{VPC}ec2.authorize_security_group_ingress(GroupId=group, IpPermissions={rule})\n")
    run = check(aws, script, "--subnet", subnet, "--security-group", group, "--instance-type", kind)
    assert line(run, "security groups").startswith(level)


def test_a_group_without_outbound_rules_fails(aws: Aws, script: Path) -> None:
    anywhere = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    shut = f"ec2.revoke_security_group_egress(GroupId=group, IpPermissions={anywhere})\n"
    subnet, group = aws.boto3(VPC + OPEN + shut)
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
    aws.boto3(f"boto3.client('iam').create_role(RoleName='Other', AssumeRolePolicyDocument={policy!r})")
    run = check(aws, script, "--role", "Other")
    assert run.code == 1
    assert "does not trust sagemaker.amazonaws.com, but ec2.amazonaws.com" in line(run, "role")
    assert line(check(aws, script), "role").startswith("ok")


@pytest.mark.parametrize(
    ("name", "statement", "found"),
    [
        ("Object", {"Principal": {"Service": "sagemaker.amazonaws.com"}}, "ok       role"),
        ("Anybody", [{"Principal": "*"}], "unknown  role"),
        ("AnyAccount", [{"Principal": {"AWS": "*"}}], "unknown  role"),
        ("Account", [{"Principal": {"AWS": "123456789012"}}], "fail     role"),
    ],
)
def test_a_trust_policy_may_have_any_legal_form(aws: Aws, script: Path, name: str, statement: Any, found: str) -> None:
    for one in statement if isinstance(statement, list) else [statement]:
        one.update(Effect="Allow", Action="sts:AssumeRole")
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    aws.boto3(f"boto3.client('iam').create_role(RoleName={name!r}, AssumeRolePolicyDocument={policy!r})")
    run = check(aws, script, "--role", name)
    assert line(run, "role").startswith(found), run.out + run.err


def test_the_hosts_that_are_kept_after_the_job_are_in_its_highest_cost_and_have_a_quota(aws: Aws, script: Path) -> None:
    run = check(aws, script, "--keep-alive", "7200")
    assert "at most 130.00 USD: 26 h (--max-run and --keep-alive)" in line(run, "cost")
    assert "fail     quota" in run.out
    assert "this account may use 1 ml.p4d.24xlarge for training warm pool usage at once, not 2." in run.out


def test_hosts_of_a_training_plan_need_no_quota_and_have_no_on_demand_price(aws: Aws, script: Path) -> None:
    plan = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/mine"
    run = check(aws, script, "--instance-count", "9", "--training-plan", plan)
    assert run.code == 0, run.out + run.err
    assert line(run, "quota").endswith("hosts and price are those of the training plan.")
    assert "on-demand price" not in run.out


def test_on_one_instance_no_rule_is_said_to_let_hosts_reach_each_other(aws: Aws, script: Path) -> None:
    subnet, group = aws.boto3(VPC)
    found = line(
        check(aws, script, "--subnet", subnet, "--security-group", group, "--instance-count", "1"), "security groups"
    )
    assert found.startswith("ok")
    assert f"{group}: one instance needs no rule" in found


def test_an_empty_channel_fails_and_a_used_checkpoint_folder_of_a_spot_job_warns(aws: Aws, script: Path) -> None:
    aws.boto3(f"boto3.client('s3').put_object(Bucket={BUCKET!r}, Key='used/last.ckpt', Body=b'1')")
    run = check(
        aws, script, "--channel", f"train=s3://{BUCKET}/nothing", "--spot", "--checkpoint-uri", f"s3://{BUCKET}/used"
    )
    assert run.code == 1
    assert "no file is stored under this channel's prefix" in line(run, f"s3://{BUCKET}/nothing")
    used = line(run, f"s3://{BUCKET}/used")
    assert used.startswith("warn")
    assert "training continues from the newest checkpoint" in used


@pytest.mark.parametrize(
    ("key", "region", "told"),
    [
        ("data/", "us-east-1", "no file is stored under this channel's prefix"),  # the console's empty folder
        ("data/sub/", "us-east-1", "no file is stored under this channel's prefix"),
        ("data/a.csv", "eu-west-1", "its bucket lies in eu-west-1; a channel's must lie in the job's region, us"),
    ],
)
def test_a_channel_that_sagemaker_refuses_fails(aws: Aws, script: Path, key: str, region: str, told: str) -> None:
    bucket = f"channel-{region}-{key.count('/')}"
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    aws.boto3(
        f"s3 = boto3.client('s3', region_name={region!r})\ns3.create_bucket(Bucket={bucket!r}, **{where})\n"
        f"s3.put_object(Bucket={bucket!r}, Key={key!r}, Body=b'')"
    )
    run = check(aws, script, "--channel", f"train=s3://{bucket}/data")
    assert run.code == 1
    found = line(run, f"s3://{bucket}/data")
    assert found.startswith("fail")
    assert told in found
    assert "HINT: " in found


def test_what_may_not_be_asked_is_unknown_with_the_permission_that_is_missing(aws: Aws, script: Path) -> None:
    subnet, group = aws.boto3(VPC + OPEN)
    secret = aws.boto3(
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
            *("--instance-type", "ml.g7e.12xlarge"),  # which the table lacks
            AWS_ACCESS_KEY_ID=secret[0],
            AWS_SECRET_ACCESS_KEY=secret[1],
        )
    finally:
        aws.authorize(after=None)
    assert run.code == 0, run.out + run.err
    for name, action in (
        ("instance type", "ec2:DescribeInstanceTypes"),
        ("security groups", "ec2:DescribeSecurityGroups"),
        ("role", "iam:GetRole"),
        (f"s3://{BUCKET}/out", "s3:ListBucket"),
        ("outputs", ""),
    ):
        if not action:
            assert line(run, name).startswith("ok")
            continue
        assert line(run, name).startswith("unknown")
        assert f"not checked: {action} is denied" in line(run, name)


def test_the_sdk_s_defaults_are_asked_for_and_what_it_lacks_fails(aws: Aws, script: Path) -> None:
    plain = ("--instance-type", "ml.p4d.24xlarge", "--dry-run")
    (absent,) = aws.run((script, *plain))  # no SDK here
    for name, fix in (("image", "--image with a URI"), ("role", "--role"), ("outputs", "--output-uri")):
        assert line(absent, name).startswith("fail")
        assert f"HINT: {fix}, or pip install sagemaker." in line(absent, name)


@pytest.mark.parametrize("kind", ["ml.trn1.32xlarge", "ml.inf2.xlarge"])
def test_an_instance_type_of_neuron_needs_an_image_that_is_given(aws: Aws, script: Path, kind: str) -> None:
    plain = (script, "--instance-type", kind, "--role", ROLE, "--output-uri", f"s3://{BUCKET}/out")
    dry, code, own = aws.submit(
        "v2", (*plain, "--dry-run"), (*plain, "--as-notebook", "v2"), (*plain, "--dry-run", "--image", "mine:1")
    )
    told = f"The image for {kind} is none of AWS's for CPUs and GPUs. HINT: --image with one for Neuron."
    assert line(dry, "image").startswith("fail")
    assert told in line(dry, "image")
    assert (code.code, code.out) == (2, "")
    assert told in code.err
    assert line(own, "image").startswith("unknown")


@pytest.mark.parametrize("sdk", SDKS)
def test_image_role_and_bucket_are_the_sdk_s_whichever_is_installed(aws: Aws, script: Path, sdk: str) -> None:
    plain = ("--instance-type", "ml.p4d.24xlarge", "--role", ROLE, "--dry-run", "--json")
    before = [bucket["Name"] for bucket in aws.boto3("result = boto3.client('s3').list_buckets()['Buckets']")]
    newest, with_smddp, wrong, single = aws.submit(
        sdk,
        (script, *plain),
        (script, *plain, "--strategy", "smddp", "--instance-count", "2"),
        (script, *plain, "--torch", "9.9.9"),
        (script, "--instance-type", "ml.c5.xlarge", "--dry-run", "--json", "--region", "cn-north-1"),
    )
    assert json.loads(newest.out)["AlgorithmSpecification"]["TrainingImage"] == (
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.13-cu133-amzn2023-sagemaker"
    )
    assert json.loads(newest.out)["OutputDataConfig"]["S3OutputPath"] == "s3://sagemaker-us-east-1-123456789012"
    assert "/pytorch-training:2.5.1-gpu-py311" in json.loads(with_smddp.out)["AlgorithmSpecification"]["TrainingImage"]
    assert "AWS publishes no PyTorch training image '9.9.9'" in wrong.err
    assert json.loads(single.out)["AlgorithmSpecification"]["TrainingImage"] == (
        "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch:2.13-cpu-amzn2023-sagemaker"
    )
    after = [bucket["Name"] for bucket in aws.boto3("result = boto3.client('s3').list_buckets()['Buckets']")]
    assert after == before  # a dry run makes no bucket


def test_an_instance_type_that_the_table_lacks_is_known_from_ec2(aws: Aws, script: Path) -> None:
    run = check(aws, script, "--instance-type", "ml.g7e.12xlarge", "--instance-count", "1", "--launcher", "torchrun")
    assert line(run, "instance type").startswith("ok")
    assert "ml.g7e.12xlarge: 2 GPU(s)" in line(run, "instance type")


def test_an_instance_type_that_ec2_does_not_have_in_the_region_fails(aws: Aws, script: Path) -> None:
    run = check(aws, script, "--instance-type", "ml.c5.huge")
    assert run.code == 1
    assert line(run, "instance type").startswith("fail")
    assert "not found: The following supplied instance types do not exist" in line(run, "instance type")
    assert "c5.huge" in line(run, "instance type")
    assert line(run, "instance type").endswith("HINT: check the name, and the region.")


def test_a_good_job_passes_and_says_who_sends_what(aws: Aws, script: Path) -> None:
    (run,) = aws.run((script, *JOB, "--json"))
    assert run.code == 0, run.out + run.err
    assert json.loads(run.out)["RoleArn"] == ROLE
    told = {text[9:].split("  ")[0]: text for text in run.err.splitlines()}
    assert "of account 123456789012, us-east-1" in told["identity"]
    assert "2 of 8 ml.p4d.24xlarge for training job usage" in told["quota"]
    assert "at most 120.00 USD: 24 h (--max-run)" in told["cost"]
    assert [name for name, text in told.items() if text.startswith(("fail", "warn"))] == []
    assert "train.py" in run.err.partition("kB")[2]  # the list of files


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_regions_of_other_partitions_are_known(aws: Aws, script: Path, region: str) -> None:
    run = check(aws, script, "--region", region)
    assert not [one for one in run.out.splitlines() if one[9:].startswith("region")]
    assert region in line(run, "identity")


def test_what_is_unknown_counts_as_failed_where_asked(aws: Aws, script: Path) -> None:
    own = ("--strategy", "the-script-registers-this-one")
    plain, strict = aws.run((script, *JOB, *own), (script, *JOB, *own, "--strict"))
    assert (plain.code, strict.code) == (0, 1)
    assert line(strict, "strategy").startswith("unknown")
    assert "Not sent: a check has failed or could not be made" in strict.err
