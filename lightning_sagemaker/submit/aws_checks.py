"""What is wrong with a job before money is spent on it, as AWS can tell; where it may not be asked, it says so."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
)

from lightning_sagemaker.findings import Finding
from lightning_sagemaker.settings import RESUME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker.submit.description import JobDescription

_WHO = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure")
_LOG_IN = "HINT: `aws configure` or `aws sso login`, or AWS_PROFILE; `aws sts get-caller-identity` shows who you are."
_LIMITS = {  # names of the API's own types
    "retries": "MaximumRetryAttempts",
    "instance_count": "TrainingInstanceCount",
    "volume_gb": "VolumeSizeInGB",
    "max_run": "MaxRuntimeInSeconds",
    "max_wait": "MaxWaitTimeInSeconds",
}
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_ABSENT = (
    *("404", "NoSuchBucket", "NoSuchEntity", "InvalidGroup.NotFound", "InvalidGroupId.Malformed"),
    *("InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed"),
)
_ALL = "-1"  # of protocols
_HERE = "between them: security groups must allow all traffic from and to themselves (EFA needs both directions)"


def check(job: JobDescription, session: Any) -> list[Finding]:
    """All checks that ask AWS; each asks to read only.

    Args:
        job: The job.
        session: Session of boto3.
    """
    partitions = session.get_available_partitions()  # China and GovCloud are none of the default one
    regions = [region for one in partitions for region in session.get_available_regions("sagemaker", one)]
    if session.region_name not in regions:
        what = f"{session.region_name} is none that boto3 knows" if session.region_name else "none is configured"
        near = ", ".join(difflib.get_close_matches(session.region_name or "", regions, 2)) or "one such as us-east-1"
        return [Finding("region", "fail", f"{what}.", f"HINT: --region or AWS_DEFAULT_REGION, with {near}.")]
    found = [*_check_limits(job, session.client("sagemaker").meta.service_model)]
    found += _asked("identity", "sts:GetCallerIdentity", lambda: _check_identity(session))
    if found[-1].level == "fail":
        return found  # nobody would be answered
    if job.subnets and job.security_group_ids:
        ec2 = session.client("ec2")
        found += _asked("security groups", "ec2:DescribeSecurityGroups", lambda: _check_groups(job, ec2))
        found += _asked("subnets", "ec2:DescribeSubnets", lambda: _check_subnets(job, ec2))
    if job.role is not None:
        found += _asked("role", "iam:GetRole", lambda: _check_role(str(job.role), session.client("iam")))
    uris = {*job.channels.values(), *filter(None, (job.checkpoint_s3_uri, job.output_s3_uri))}
    for uri in sorted(uris):
        found += _asked(uri, "s3:ListBucket", lambda uri=uri: _check_prefix(job, uri, session.client("s3")))  # type: ignore[misc]
    return found


def _asked(name: str, action: str, ask: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(ask())
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _ABSENT:
            text = error.response["Error"].get("Message", code)
            return [Finding(name, "fail", f"not found: {text}", "HINT: check the name, and the region.")]
        if code in _WHO:
            return [Finding(name, "fail", f"AWS refuses these credentials ({code}): {error}", _LOG_IN)]
        if code in _DENIED:
            fix = f"HINT: allow {action} to check it."
            return [Finding(name, "unknown", f"not checked: {action} is denied ({code}).", fix)]
        return [Finding(name, "unknown", f"not checked: {error}", "HINT: try again.")]
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError) as error:
        return [Finding(name, "fail", f"there are no AWS credentials: {error}.", _LOG_IN)]
    except BotoCoreError as error:
        return [Finding(name, "unknown", f"not checked: {error}", "HINT: check region and network.")]


def _check_identity(session: Any) -> Iterator[Finding]:
    found = session.client("sts").get_caller_identity()
    yield Finding("identity", "ok", f"{found['Arn']}, {session.region_name}.")


def _check_limits(job: JobDescription, api: Any) -> Iterator[Finding]:
    """What the API takes, by botocore's model of it, without asking anybody."""
    known = api.shape_for("TrainingInstanceType").enum
    if job.instance_type not in known:
        near = difflib.get_close_matches(job.instance_type, known, 3)
        fix = f"HINT: {' or '.join(near)}? " if near else "HINT: "
        what = f"{job.instance_type} is none that boto3 knows for training."
        yield Finding("instance type", "fail", what, f"{fix}A type newer than this boto3 needs a newer one.")
    for name, shape in _LIMITS.items():
        value, limits = getattr(job, name), api.shape_for(shape).metadata
        if value is not None and not limits.get("min", value) <= value <= limits.get("max", value):
            told = f"{limits.get('min', '')} to {limits.get('max', '')}"
            yield Finding(name, "fail", f"{value}, but SageMaker takes {told}.", f"HINT: --{name.replace('_', '-')}.")


def _check_groups(job: JobDescription, ec2: Any) -> Iterator[Finding]:
    groups = ec2.describe_security_groups(GroupIds=list(job.security_group_ids))["SecurityGroups"]
    ids = {group["GroupId"] for group in groups}
    wrong = []
    for direction, key in (("inbound", "IpPermissions"), ("outbound", "IpPermissionsEgress")):
        # All groups are attached to all hosts, so it suffices that one lets one of them in, and one out.
        if not any(_allows(rule, ids, outbound=direction == "outbound") for group in groups for rule in group[key]):
            wrong.append(direction)
    names = ", ".join(sorted(ids))
    if not wrong or job.instance_count == 1:
        yield Finding("security groups", "ok", f"{names}: all traffic {_HERE.partition(':')[0]}.")
        return
    yield Finding(
        "security groups",
        "fail",
        f"{names}: no rule allows all {' and '.join(wrong)} traffic {_HERE}.",
        "HINT: "
        + "; ".join(
            f"aws ec2 authorize-security-group-{'ingress' if direction == 'inbound' else 'egress'} --group-id"
            f" {min(ids)} --ip-permissions IpProtocol=-1,UserIdGroupPairs=[{{GroupId={min(ids)}}}]"
            for direction in wrong
        )
        + ".",
    )


def _allows(rule: dict[str, Any], ids: set[str], *, outbound: bool) -> bool:
    if rule["IpProtocol"] != _ALL:
        return False
    if any(pair.get("GroupId") in ids for pair in rule.get("UserIdGroupPairs", ())):
        return True
    # Anywhere covers TCP between the hosts. EFA's traffic out needs the group itself, but who has opened all has TCP.
    ranges = [one["CidrIp"] for one in rule.get("IpRanges", ())]
    return "0.0.0.0/0" in ranges and outbound


def _check_subnets(job: JobDescription, ec2: Any) -> Iterator[Finding]:
    subnets = ec2.describe_subnets(SubnetIds=list(job.subnets))["Subnets"]
    groups = ec2.describe_security_groups(GroupIds=list(job.security_group_ids))["SecurityGroups"]
    vpcs = {subnet["SubnetId"]: subnet["VpcId"] for subnet in subnets}
    vpcs |= {group["GroupId"]: group["VpcId"] for group in groups}
    if len(set(vpcs.values())) > 1:
        told = ", ".join(f"{name} in {vpc}" for name, vpc in sorted(vpcs.items()))
        yield Finding("subnets", "fail", f"they lie in different VPCs: {told}.", "HINT: choose those of one VPC.")
        return
    free = {subnet["SubnetId"]: subnet["AvailableIpAddressCount"] for subnet in subnets}
    if sum(free.values()) < job.instance_count:
        told = ", ".join(f"{name} has {count}" for name, count in sorted(free.items()))
        yield Finding(
            "subnets", "fail", f"{job.instance_count} hosts need an address each: {told} free.", "HINT: another."
        )
        return
    yield Finding("subnets", "ok", f"{', '.join(sorted(free))} in {next(iter(vpcs.values()))}.")


def _check_role(role: str, iam: Any) -> Iterator[Finding]:
    name = role.rpartition("/")[2]
    found = iam.get_role(RoleName=name)["Role"]
    trusted = [
        service
        for statement in found["AssumeRolePolicyDocument"].get("Statement", ())
        if statement.get("Effect") == "Allow"
        for service in _as_list(statement.get("Principal", {}).get("Service", ()))
    ]
    if "sagemaker.amazonaws.com" not in trusted:
        yield Finding(
            "role",
            "fail",
            f"{found['Arn']} does not trust sagemaker.amazonaws.com, but {', '.join(trusted) or 'no service'}.",
            "HINT: add it to the role's trust policy.",
        )
        return
    yield Finding("role", "ok", f"{found['Arn']} trusts SageMaker.")


def _check_prefix(job: JobDescription, uri: str, s3: Any) -> Iterator[Finding]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    if found.get("KeyCount", 0) == 0 and uri in job.channels.values():
        yield Finding(uri, "fail", "nothing lies under this channel's prefix.", "HINT: check the prefix.")
    elif found.get("KeyCount", 0) and uri == job.checkpoint_s3_uri and RESUME in job.environment:
        yield Finding(
            uri,
            "warn",
            "the checkpoint folder is not empty: training continues from the newest checkpoint in it.",
            "HINT: another prefix starts from the beginning.",
        )
    else:
        yield Finding(uri, "ok", "can be listed.")


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
