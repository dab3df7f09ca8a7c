"""What AWS is asked about a job: the checks of it, and what its description leaves out (image, role, bucket).

What may not be asked is reported as not checked. Defaults are those of the SageMaker Python SDK, v2 or v3, whichever is
installed: it knows those of an account and region.
"""

from __future__ import annotations

import datetime as dt
import difflib
import importlib
import itertools
import os
import sys
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lightning_sagemaker.findings import Finding, fail, ok, unknown, warn
from lightning_sagemaker.instances import Instance, instance
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.options import one_line
from lightning_sagemaker.settings import RESUME
from lightning_sagemaker.submit.choices import repository_and_tag
from lightning_sagemaker.submit.request import Resolved

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.submit.training_job import TrainingJob

UNREACHABLE = "HINT: check region and network."  # the fix where AWS gave no answer at all
_LONGEST = 300  # characters of what it answers
_IMAGES = ("sagemaker.image_uris", "sagemaker.core.image_uris")  # v2's, v3's
_SESSION = ("sagemaker.session", "sagemaker.core.helper.session_helper")


def asked(name: str, action: str, ask: Callable[..., Any], *given: Any) -> list[Any]:
    """What a question to AWS or the SDK finds, or why there is no answer; the action is what it must be allowed."""
    try:
        found = ask(*given)
    except ClientError as error:
        code, text = aws.code_of(error), _short(error)
        if aws.is_missing(error):
            text = _short(error.response["Error"].get("Message", code))
            return [fail(name, f"not found: {text}", "HINT: check the name, and the region.")]
        if aws.lacks_login(error):
            return [fail(name, f"AWS refuses these credentials ({code}): {text}. HINT: {aws.LOG_IN}")]
        if code in aws.DENIED:
            return [unknown(name, f"not checked: {action} is denied ({code}). HINT: allow {action} to check it.")]
        return [unknown(name, f"not checked: {text}", "HINT: try again.")]
    except BotoCoreError as error:
        if aws.lacks_login(error):
            return [fail(name, f"There are no usable credentials for AWS. {error}. HINT: {aws.LOG_IN}")]
        return [unknown(name, f"not checked: {_short(error)}", UNREACHABLE)]
    except (ImportError, ValueError) as error:  # of this package, or of the SDK
        return [fail(name, str(error), "HINT: see the message; --debug shows where it comes from.")]
    return found if isinstance(found, list) else [found]


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
    found: Finding = asked("identity", "sts:GetCallerIdentity", _check_identity, session)[0]
    return found


def check(job: TrainingJob, session: Any, kind: Instance | Finding) -> list[Finding]:
    """All checks that ask AWS of a job, whose instance type was `described`; each only reads."""
    found = []
    if job.subnets and job.security_groups:
        ec2 = session.client("ec2")
        found += asked("security groups", "ec2:DescribeSecurityGroups", _check_groups, job, ec2, kind)
        found += asked("subnets", "ec2:DescribeSubnets", _check_subnets, job, ec2)
    uris = {*(channel.uri for channel in job.inputs.values()), *filter(None, (job.checkpoint_uri, job.output_uri))}
    for uri in sorted(uris):
        found += asked(uri, "s3:ListBucket", _check_prefix, job, uri, session.client("s3"))
    if job.training_plan:
        return [*found, ok("quota", "hosts and price are those of the training plan.")]
    return [
        *found,
        _check_cost(job, session),
        *asked("quota", "servicequotas:ListServiceQuotas", _check_quota, job, session),
    ]


def described(job: TrainingJob, session: Any) -> Instance | Finding:
    """The job's instance type as EC2 describes it, or else the table; or why neither does."""
    (found,) = asked("instance type", "ec2:DescribeInstanceTypes", _described, job, session)
    known = instance(job.launched.instance_type)
    return known if known and isinstance(found, Finding) and found.level == "unknown" else found


def _described(job: TrainingJob, session: Any) -> Instance:
    kind = job.launched.instance_type.removeprefix("ml.")
    (found,) = session.client("ec2").describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
    gpus = sum(gpu["Count"] for gpu in found.get("GpuInfo", {}).get("Gpus", ()))
    return Instance(gpus, efa=found["NetworkInfo"]["EfaSupported"], rdma=False)


def _check_identity(session: Any) -> Finding:
    found = session.client("sts").get_caller_identity()
    who = found["Arn"].rpartition(":")[2]  # an ARN's account would be masked, and the reader wants to see it
    return ok("identity", f"{who} of account {found['Account']}, {session.region_name}.")


def _check_cost(job: TrainingJob, session: Any) -> Finding:
    """Check the highest cost of the job, by the price list: its longest time on all its hosts, also those kept."""
    hours = (job.max_run + (job.keep_alive or 0)) / 3600
    why = "--max-run and --keep-alive" if job.keep_alive else "--max-run"
    known, missing = aws.prices(dict.fromkeys(group.instance_type for group in job.groups.values()), session)
    if missing:
        fix = f"HINT: each host is billed for at most {hours:g} h ({why})."
        return unknown("cost", f"the price is unknown: {missing}.", fix)
    total = sum(known[group.instance_type] * group.instance_count for group in job.groups.values()) * hours
    told = f"at most {total:,.2f} USD: {hours:g} h ({why}) at the on-demand price"
    return ok("cost", f"{told}, of which spot instances cost a part." if job.spot else f"{told}.")


def _check_quota(job: TrainingJob, session: Any) -> list[Finding]:
    """Check how many instances this account may use at once: a new account may use none of the large ones."""
    uses = ["spot training job usage" if job.spot else "training job usage"]
    uses += ["training warm pool usage"] * bool(job.keep_alive)
    wanted: dict[str, int] = {}
    for group in job.groups.values():
        wanted[group.instance_type] = wanted.get(group.instance_type, 0) + group.instance_count
    pages = session.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {one["QuotaName"]: int(one["Value"]) for page in pages for one in page["Quotas"]}
    found = []
    for (kind, count), use in itertools.product(wanted.items(), uses):
        quota = quotas.get(f"{kind} for {use}")
        if quota is None:
            found.append(unknown("quota", f"Service Quotas has none for {kind} for {use}. HINT: look in the console."))
        elif quota < count:
            what = f"this account may use {quota} {kind} for {use} at once, not {count}."
            found.append(fail("quota", what, "HINT: ask for more in Service Quotas, which takes a day or more."))
        else:
            found.append(ok("quota", f"{count} of {quota} {kind} for {use}."))
    return found


def _check_groups(job: TrainingJob, ec2: Any, kind: Instance | Finding) -> Finding:
    groups = ec2.describe_security_groups(GroupIds=list(job.security_groups))["SecurityGroups"]
    ids = {group["GroupId"] for group in groups}
    names = ", ".join(sorted(ids))
    if sum(group.instance_count for group in job.groups.values()) == 1:
        return ok("security groups", f"{names}: one instance needs no rule for traffic between hosts.")
    wrong, efa = [], isinstance(kind, Finding) or kind.efa
    for direction, key in (("inbound", "IpPermissions"), ("outbound", "IpPermissionsEgress")):
        # All groups are attached to all hosts, so it suffices that one lets one of them in, and one out.
        if not any(_allows(rule, ids, efa, direction) for group in groups for rule in group[key]):
            wrong.append(direction)
    if not wrong:
        return ok("security groups", f"{names}: all traffic between them{'' if efa else ' by TCP'}.")
    fixes = "; ".join(
        f"aws ec2 authorize-security-group-{'ingress' if direction == 'inbound' else 'egress'} --group-id {min(ids)}"
        f" --ip-permissions IpProtocol=-1,UserIdGroupPairs=[{{GroupId={min(ids)}}}]"
        for direction in wrong
    )
    what = f"{names}: no rule allows all {' and '.join(wrong)} traffic between them"
    why = f"security groups must allow all {'traffic' if efa else 'TCP'} from and to themselves"
    return fail("security groups", f"{what}: {why}. HINT: {fixes}.")


def _allows(rule: dict[str, Any], ids: set[str], efa: bool, direction: str) -> bool:
    all_tcp = rule["IpProtocol"] == "tcp" and rule["FromPort"] <= 1 and rule["ToPort"] == 65535  # noqa: PLR2004
    if rule["IpProtocol"] != "-1" and (efa or not all_tcp):  # EFA needs all protocols
        return False
    if any(pair.get("GroupId") in ids for pair in rule.get("UserIdGroupPairs", ())):
        return True
    # Anywhere covers TCP between the hosts. EFA's traffic out needs the group itself, but who has opened all has TCP.
    ranges = [one["CidrIp"] for one in rule.get("IpRanges", ())]
    return "0.0.0.0/0" in ranges and (direction == "outbound" or not efa)


def _check_subnets(job: TrainingJob, ec2: Any) -> Finding:
    subnets = ec2.describe_subnets(SubnetIds=list(job.subnets))["Subnets"]
    groups = ec2.describe_security_groups(GroupIds=list(job.security_groups))["SecurityGroups"]
    vpcs = {subnet["SubnetId"]: subnet["VpcId"] for subnet in subnets}
    vpcs |= {group["GroupId"]: group["VpcId"] for group in groups}
    if len(set(vpcs.values())) > 1:
        told = ", ".join(f"{name} in {vpc}" for name, vpc in sorted(vpcs.items()))
        return fail("subnets", f"they lie in different VPCs: {told}. HINT: choose those of one VPC.")
    free = {subnet["SubnetId"]: subnet["AvailableIpAddressCount"] for subnet in subnets}
    hosts = sum(group.instance_count for group in job.groups.values())
    if sum(free.values()) < hosts:
        told = ", ".join(f"{name} has {count}" for name, count in sorted(free.items()))
        return fail("subnets", f"{hosts} hosts need an address each: {told} free. HINT: another.")
    return ok("subnets", f"{', '.join(sorted(free))} in {next(iter(vpcs.values()))}.")


def _check_prefix(job: TrainingJob, uri: str, s3: Any) -> Finding:
    bucket, prefix = aws.place(uri)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    # The console makes an object for an empty folder.
    found = any(not one["Key"].endswith("/") for page in pages for one in page.get("Contents", ()))
    if uri in {channel.uri for channel in job.inputs.values()}:
        region = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if region and region != (own := s3.meta.region_name):  # stores that are like S3 do not say
            what = f"its bucket lies in {region}; a channel's must lie in the job's region, {own}."
            return fail(uri, what, "HINT: copy the data into a bucket there, or --region.")
        if not found:
            return fail(uri, "no file is stored under this channel's prefix. HINT: check the prefix.")
    if found and uri == job.checkpoint_uri and RESUME in job.env:
        what = "the checkpoint folder is not empty: training continues from the newest checkpoint in it."
        return warn(uri, what, "HINT: another prefix starts from the beginning.")
    return ok(uri, "can be listed.")


def resolve(job: TrainingJob, session: Any) -> tuple[Resolved, list[Finding]]:
    """Find what a completed job leaves out, with a finding for each; nothing is created."""
    now = dt.datetime.now(dt.timezone.utc)
    name = job.set.get("TrainingJobName") or f"{job.name}-{now:%Y-%m-%d-%H-%M-%S}-{now.microsecond // 1000:03}"
    known: dict[str, str] = {}
    findings = [
        *asked("image", "", _image, job, session.region_name, known),
        *asked("role", "iam:GetRole", _role, job, session, known),
        *asked("outputs", "sts:GetCallerIdentity", _output, job, session, known),
    ]
    return Resolved(str(name), session.region_name, **known), findings


def image_uri(job: TrainingJob, region: str) -> str:
    """Image of a job: its own, or AWS's PyTorch training image of its version, in the registry that an SDK knows."""
    if job.image is not None:
        return job.image
    place = repository_and_tag(str(job.torch), job.launched.instance_type)
    image_uris = _sdk(_IMAGES, "image's registry", "--image with a URI")
    known = {"version": "2.5.1", "py_version": "py311", "instance_type": "ml.p4d.24xlarge"}  # by both lines
    uri: str = image_uris.retrieve("pytorch", region, image_scope="training", **known)
    return f"{uri.partition('/')[0]}/{place}"


def default_bucket(session: Any, *, create: bool) -> str:
    """Name of the SDK's default bucket, which is made where it is absent, as the SDK does, if that is asked for."""
    account = session.client("sts").get_caller_identity()["Account"]
    kind = _sdk(_SESSION, "bucket", "--output-uri").Session
    # A configuration file of the SDK may name another one; asking for it by its public method would make it.
    name = getattr(kind(boto_session=session), "_default_bucket_name_override", None)
    name = name or f"sagemaker-{session.region_name}-{account}"
    return str(kind(boto_session=session, default_bucket=name).default_bucket()) if create else name


def _image(job: TrainingJob, region: str, known: dict[str, str]) -> Finding:
    known["image"] = image_uri(job, region)
    if job.image is None:
        return ok("image", f"{known['image']}.")
    fix = "HINT: it needs torch and the training toolkit (sagemaker-training); for smddp also SMDDP."
    return unknown("image", f"{job.image} is not checked.", fix)


def _role(job: TrainingJob, session: Any, known: dict[str, str]) -> Finding:
    role = job.role
    if role is None:
        helper = _sdk(_SESSION, "role", "--role")
        role = str(helper.get_execution_role(helper.Session(boto_session=session)))
    if role.startswith("arn:"):
        known["role"] = role  # also where nobody may look at it
    found = session.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]
    arn = found["Arn"]
    if role.startswith("arn:") and role != arn:
        what = f"{role} is none of this account, {arn.split(':')[4]}, whose role of that name is {arn}."
        return fail("role", what, "HINT: --profile with credentials of the role's account, or a role of this one.")
    known["role"] = arn
    # Each may stand alone or in a list; a principal is a mapping by kinds, or "*".
    allowing = [one for one in _as_list(found["AssumeRolePolicyDocument"]["Statement"]) if one["Effect"] == "Allow"]
    principals = [one["Principal"] for one in allowing if "Principal" in one]
    by_kind = [one if isinstance(one, dict) else {"AWS": one} for one in principals]
    services = [service for one in by_kind for service in _as_list(one.get("Service", ()))]
    if any(service.startswith("sagemaker.amazonaws.com") for service in services):
        return ok("role", f"{arn} trusts SageMaker.")
    if len(principals) < len(allowing) or any("*" in _as_list(one.get("AWS", ())) for one in by_kind):
        fix = "HINT: name sagemaker.amazonaws.com in the role's trust policy."
        return unknown("role", f"{arn} trusts anybody but for exceptions, and does not name SageMaker.", fix)
    what = f"{arn} does not trust sagemaker.amazonaws.com, but {', '.join(services) or 'no service'}."
    return fail("role", what, "HINT: add it to the role's trust policy.")


def _output(job: TrainingJob, session: Any, known: dict[str, str]) -> Finding:
    known["output"] = (job.output_uri or f"s3://{default_bucket(session, create=False)}").rstrip("/")
    return ok("outputs", f"{known['output']}/NAME: source, model.tar.gz, output.tar.gz.")


def _sdk(names: tuple[str, str], what: str, instead: str) -> Any:
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")  # of the command's user, who writes no code with it
    for name in names:
        # The SDK's logger of its configuration takes the standard output for its own.
        with suppress(ImportError), redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    raise ImportError(
        f"No SageMaker Python SDK is installed to ask for the default {what}. HINT: {instead}, or pip install"
        " sagemaker."
    )


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
