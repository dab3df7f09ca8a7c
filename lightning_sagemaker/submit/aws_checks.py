"""The checks of a job that ask AWS; what may not be asked is reported as not checked."""

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

from lightning_sagemaker.findings import Finding, fail, ok, unknown, warn
from lightning_sagemaker.instances import Instance
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.options import one_line
from lightning_sagemaker.settings import RESUME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker.submit.training_job import TrainingJob

UNREACHABLE = "HINT: check region and network."  # the fix where AWS gave no answer at all
_LONGEST = 300  # characters of what it answers
_WHO = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_ALL = "-1"  # of protocols
_HERE = "between them: security groups must allow all traffic from and to themselves (EFA needs both directions)"


def asked(name: str, action: str, ask: Callable[..., Iterator[Finding]], *given: Any) -> list[Finding]:
    """Findings of a question to AWS or the SDK, or one finding that says why there is no answer.

    Args:
        name: What is checked.
        action: Permission that the question needs.
        ask: The question.
        given: Its arguments.
    """
    try:
        return list(ask(*given))
    except ClientError as error:
        code, text = error.response.get("Error", {}).get("Code", ""), _short(error)
        if aws.is_missing(error):
            text = _short(error.response["Error"].get("Message", code))
            return [fail(name, f"not found: {text}", "HINT: check the name, and the region.")]
        if code in _WHO:
            return [fail(name, f"AWS refuses these credentials ({code}): {text}. HINT: {aws.LOG_IN}")]
        if code in _DENIED:
            return [unknown(name, f"not checked: {action} is denied ({code}). HINT: allow {action} to check it.")]
        return [unknown(name, f"not checked: {text}", "HINT: try again.")]
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError) as error:
        return [fail(name, f"There are no usable credentials for AWS. {error}. HINT: {aws.LOG_IN}")]
    except BotoCoreError as error:
        return [unknown(name, f"not checked: {_short(error)}", UNREACHABLE)]
    except (ImportError, ValueError) as error:  # of this package, or of the SDK
        return [fail(name, str(error), "HINT: see the message; --debug shows where it comes from.")]


def _short(text: object) -> str:
    """An error text of AWS, shortened: a proxy may have answered with a page."""
    return one_line(str(text))[:_LONGEST]


def check_region(session: Any) -> Finding | None:
    """Check the region."""
    partitions = session.get_available_partitions()  # China and GovCloud are none of the default one
    regions = [region for one in partitions for region in session.get_available_regions("sagemaker", one)]
    if session.region_name in regions:
        return None
    what = f"{session.region_name} is not a region that boto3 knows" if session.region_name else "none is configured"
    near = ", ".join(difflib.get_close_matches(session.region_name or "", regions, 2)) or "one such as us-east-1"
    return fail("region", f"{what}. HINT: --region or AWS_DEFAULT_REGION, with {near}.")


def check_identity(session: Any) -> Finding:
    """Check the credentials, and say whose they are."""
    return asked("identity", "sts:GetCallerIdentity", _check_identity, session)[0]


def check(job: TrainingJob, session: Any) -> list[Finding]:
    """All checks that ask AWS; each only reads."""
    found = []
    if job.subnets and job.security_groups:
        ec2 = session.client("ec2")
        found += asked("security groups", "ec2:DescribeSecurityGroups", _check_groups, job, ec2)
        found += asked("subnets", "ec2:DescribeSubnets", _check_subnets, job, ec2)
    uris = {*(channel.uri for channel in job.inputs.values()), *filter(None, (job.checkpoint_uri, job.output_uri))}
    for uri in sorted(uris):
        found += asked(uri, "s3:ListBucket", _check_prefix, job, uri, session.client("s3"))
    return [
        *found,
        _check_cost(job, session),
        *asked("quota", "servicequotas:ListServiceQuotas", _check_quota, job, session),
    ]


def described(job: TrainingJob, session: Any) -> Instance | None:
    """EC2's description of the job's instance type; ``None`` if it may not be asked or does not know the type."""
    kind = job.launched.instance_type.removeprefix("ml.")
    try:
        (found,) = session.client("ec2").describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
    except (BotoCoreError, ClientError, ValueError):
        return None
    gpus = sum(gpu["Count"] for gpu in found.get("GpuInfo", {}).get("Gpus", ()))
    return Instance(gpus, efa=found["NetworkInfo"]["EfaSupported"], rdma=False)


def _check_identity(session: Any) -> Iterator[Finding]:
    found = session.client("sts").get_caller_identity()
    who = found["Arn"].rpartition(":")[2]  # an ARN's account would be masked, and the reader wants to see it
    yield ok("identity", f"{who} of account {found['Account']}, {session.region_name}.")


def _check_cost(job: TrainingJob, session: Any) -> Finding:
    """Check the highest cost of the job, by the price list: its longest training time on all its hosts."""
    hours = job.max_run / 3600
    known, missing = aws.prices({group.instance_type for group in job.groups.values()}, session)
    if missing:
        return unknown(
            "cost",
            f"the price is unknown: {missing}.",
            f"HINT: each host is billed for at most {hours:g} h (--max-run).",
        )
    total = sum(known[group.instance_type] * group.instance_count for group in job.groups.values()) * hours
    told = f"at most {total:,.2f} USD: {hours:g} h (--max-run) at the on-demand price"
    return ok("cost", f"{told}, of which spot instances cost a part." if job.spot else f"{told}.")


def _check_quota(job: TrainingJob, session: Any) -> Iterator[Finding]:
    """Check how many instances this account may use at once: a new account may use none of the large ones."""
    use = "spot training job usage" if job.spot else "training job usage"
    wanted: dict[str, int] = {}
    for group in job.groups.values():
        wanted[group.instance_type] = wanted.get(group.instance_type, 0) + group.instance_count
    pages = session.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {one["QuotaName"]: int(one["Value"]) for page in pages for one in page["Quotas"]}
    for kind, count in wanted.items():
        quota = quotas.get(f"{kind} for {use}")
        if quota is None:
            yield unknown("quota", f"Service Quotas has none for {kind} for {use}. HINT: look in the console.")
        elif quota < count:
            what = f"this account may use {quota} {kind} for {use} at once, not {count}."
            yield fail("quota", what, "HINT: ask for more in Service Quotas, which takes a day or more.")
        else:
            yield ok("quota", f"{count} of {quota} {kind} for {use}.")


def _check_groups(job: TrainingJob, ec2: Any) -> Iterator[Finding]:
    groups = ec2.describe_security_groups(GroupIds=list(job.security_groups))["SecurityGroups"]
    ids = {group["GroupId"] for group in groups}
    wrong = []
    for direction, key in (("inbound", "IpPermissions"), ("outbound", "IpPermissionsEgress")):
        # All groups are attached to all hosts, so it suffices that one lets one of them in, and one out.
        if not any(_allows(rule, ids, outbound=direction == "outbound") for group in groups for rule in group[key]):
            wrong.append(direction)
    names = ", ".join(sorted(ids))
    if not wrong or job.launched.instance_count == 1:
        yield ok("security groups", f"{names}: all traffic {_HERE.partition(':')[0]}.")
        return
    fixes = "; ".join(
        f"aws ec2 authorize-security-group-{'ingress' if direction == 'inbound' else 'egress'} --group-id {min(ids)}"
        f" --ip-permissions IpProtocol=-1,UserIdGroupPairs=[{{GroupId={min(ids)}}}]"
        for direction in wrong
    )
    yield fail("security groups", f"{names}: no rule allows all {' and '.join(wrong)} traffic {_HERE}. HINT: {fixes}.")


def _allows(rule: dict[str, Any], ids: set[str], *, outbound: bool) -> bool:
    if rule["IpProtocol"] != _ALL:
        return False
    if any(pair.get("GroupId") in ids for pair in rule.get("UserIdGroupPairs", ())):
        return True
    # Anywhere covers TCP between the hosts. EFA's traffic out needs the group itself, but who has opened all has TCP.
    ranges = [one["CidrIp"] for one in rule.get("IpRanges", ())]
    return "0.0.0.0/0" in ranges and outbound


def _check_subnets(job: TrainingJob, ec2: Any) -> Iterator[Finding]:
    subnets = ec2.describe_subnets(SubnetIds=list(job.subnets))["Subnets"]
    groups = ec2.describe_security_groups(GroupIds=list(job.security_groups))["SecurityGroups"]
    vpcs = {subnet["SubnetId"]: subnet["VpcId"] for subnet in subnets}
    vpcs |= {group["GroupId"]: group["VpcId"] for group in groups}
    if len(set(vpcs.values())) > 1:
        told = ", ".join(f"{name} in {vpc}" for name, vpc in sorted(vpcs.items()))
        yield fail("subnets", f"they lie in different VPCs: {told}. HINT: choose those of one VPC.")
        return
    free = {subnet["SubnetId"]: subnet["AvailableIpAddressCount"] for subnet in subnets}
    if sum(free.values()) < job.launched.instance_count:
        told = ", ".join(f"{name} has {count}" for name, count in sorted(free.items()))
        yield fail("subnets", f"{job.launched.instance_count} hosts need an address each: {told} free. HINT: another.")
        return
    yield ok("subnets", f"{', '.join(sorted(free))} in {next(iter(vpcs.values()))}.")


def _check_prefix(job: TrainingJob, uri: str, s3: Any) -> Iterator[Finding]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    if found.get("KeyCount", 0) == 0 and uri in {channel.uri for channel in job.inputs.values()}:
        yield fail(uri, "nothing is stored under this channel's prefix. HINT: check the prefix.")
    elif found.get("KeyCount", 0) and uri == job.checkpoint_uri and RESUME in job.env:
        yield warn(
            uri,
            "the checkpoint folder is not empty: training continues from the newest checkpoint in it. HINT: another"
            " prefix starts from the beginning.",
        )
    else:
        yield ok(uri, "can be listed.")
