"""Finds what a job's description leaves to AWS and the SDK: image, role, and S3 URI of the outputs."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.findings import Finding, finding
from lightning_sagemaker.submit import sdk
from lightning_sagemaker.submit.asking import asked
from lightning_sagemaker.submit.images import repository_and_tag
from lightning_sagemaker.submit.request import Resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker.submit.training_job import TrainingJob


def resolve(job: TrainingJob, session: Any) -> tuple[Resolved, list[Finding]]:
    """Find what is left out; nothing is created.

    Args:
        job: The job; what it leaves out has been chosen.
        session: Session of boto3, with a region.

    Returns:
        What was found, and what there is to say of each.
    """
    now = dt.datetime.now(dt.timezone.utc)
    name = f"{job.name}-{now:%Y-%m-%d-%H-%M-%S}-{now.microsecond // 1000:03}"
    known: dict[str, str] = {}
    findings = [
        *_found("image", lambda: _image(job, session.region_name, known)),
        *asked("role", "iam:GetRole", lambda: _found("role", lambda: _role(job, session, known))),
        *asked("outputs", "sts:GetCallerIdentity", lambda: _found("outputs", lambda: _output(job, session, known))),
    ]
    return Resolved(name, session.region_name, **known), findings


def image_uri(job: TrainingJob, region: str) -> str:
    """Image of a job: its own, or AWS's PyTorch training image of its version.

    Args:
        job: The job; what it leaves out has been chosen.
        region: AWS region whose registry holds it.

    Raises:
        ImportError: No SDK is installed to ask for the registry.
        ValueError: AWS has no such image.
    """
    if job.image is not None:
        return job.image
    place = repository_and_tag(str(job.torch), job.launched.instance_type)
    return f"{sdk.registry(region)}/{place}"


def make_bucket(job: TrainingJob, session: Any) -> None:
    """Create the SDK's default bucket, if the job uses it and it does not exist.

    Args:
        job: The job.
        session: Session of boto3.
    """
    if job.output_uri is None:
        sdk.bucket(session, _account(session), create=True)


def _image(job: TrainingJob, region: str, known: dict[str, str]) -> Iterator[Finding]:
    if job.image is not None:
        known["image"] = job.image
        what = f"{job.image} is not checked."
        fix = "HINT: it needs torch and the training toolkit (sagemaker-training); for smddp also SMDDP."
        yield Finding("image", "unknown", what, fix)
        return
    known["image"] = image_uri(job, region)
    yield Finding("image", "ok", f"{known['image']}.")


def _role(job: TrainingJob, session: Any, known: dict[str, str]) -> Iterator[Finding]:
    role = sdk.execution_role(session) if job.role is None else job.role
    if role.startswith("arn:"):
        known["role"] = role  # also where nobody may look at it
    found = session.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]
    known["role"] = found["Arn"]
    trusted = [
        service
        for statement in found["AssumeRolePolicyDocument"].get("Statement", ())
        if statement.get("Effect") == "Allow"
        for service in _as_list(statement.get("Principal", {}).get("Service", ()))
    ]
    if any(service.startswith("sagemaker.amazonaws.com") for service in trusted):
        yield Finding("role", "ok", f"{found['Arn']} trusts SageMaker.")
        return
    what = f"{found['Arn']} does not trust sagemaker.amazonaws.com, but {', '.join(trusted) or 'no service'}."
    yield Finding("role", "fail", what, "HINT: add it to the role's trust policy.")


def _output(job: TrainingJob, session: Any, known: dict[str, str]) -> Iterator[Finding]:
    own = job.output_uri
    if own is None:
        own = f"s3://{sdk.bucket(session, _account(session), create=False)}"
    known["output"] = own.rstrip("/")
    yield Finding("outputs", "ok", f"{known['output']}/NAME: source, model.tar.gz, output.tar.gz.")


def _account(session: Any) -> str:
    return str(session.client("sts").get_caller_identity()["Account"])


def _found(name: str, ask: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Answer to a question, or a finding that says why it could not be asked."""
    try:
        yield from ask()
    except (ImportError, ValueError) as error:  # of this package, or of the SDK
        yield finding(name, "fail", str(error), "HINT: see the message; --debug shows where it comes from.")


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
