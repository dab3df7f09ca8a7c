"""Finds what a job's description leaves to AWS and the SDK: image, role, and S3 URI of the outputs.

The SDK is the SageMaker Python SDK, v2 or v3, whichever is installed; it knows the defaults of an account and region.
"""

from __future__ import annotations

import datetime as dt
import importlib
import os
import sys
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.findings import Finding, fail, ok, unknown
from lightning_sagemaker.submit.aws_checks import asked
from lightning_sagemaker.submit.images import repository_and_tag
from lightning_sagemaker.submit.request import Resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.submit.training_job import TrainingJob

_IMAGES = ("sagemaker.image_uris", "sagemaker.core.image_uris")  # v2's, v3's
_SESSION = ("sagemaker.session", "sagemaker.core.helper.session_helper")


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
        *asked("image", "", _image, job, session.region_name, known),
        *asked("role", "iam:GetRole", _role, job, session, known),
        *asked("outputs", "sts:GetCallerIdentity", _output, job, session, known),
    ]
    return Resolved(name, session.region_name, **known), findings


def image_uri(job: TrainingJob, region: str) -> str:
    """Image of a job: its own, or AWS's PyTorch training image of its version.

    Raises:
        ImportError: No SDK is installed to ask for the registry.
        ValueError: AWS has no such image.
    """
    if job.image is not None:
        return job.image
    place = repository_and_tag(str(job.torch), job.launched.instance_type)
    image_uris = _sdk(_IMAGES, "image's registry", "--image with a URI")
    known = {"version": "2.5.1", "py_version": "py311", "instance_type": "ml.p4d.24xlarge"}  # by both lines
    uri: str = image_uris.retrieve("pytorch", region, image_scope="training", **known)
    return f"{uri.partition('/')[0]}/{place}"


def default_bucket(session: Any, *, create: bool) -> str:
    """Name of the SDK's default bucket.

    Args:
        session: Session of boto3.
        create: Whether to make the bucket where it is absent, as the SDK does.
    """
    account = session.client("sts").get_caller_identity()["Account"]
    kind = _sdk(_SESSION, "bucket", "--output-uri").Session
    # A configuration file of the SDK may name another one; asking for it by its public method would make it.
    name = getattr(kind(boto_session=session), "_default_bucket_name_override", None)
    name = name or f"sagemaker-{session.region_name}-{account}"
    return str(kind(boto_session=session, default_bucket=name).default_bucket()) if create else name


def _image(job: TrainingJob, region: str, known: dict[str, str]) -> Iterator[Finding]:
    known["image"] = image_uri(job, region)
    if job.image is None:
        yield ok("image", f"{known['image']}.")
    else:
        fix = "HINT: it needs torch and the training toolkit (sagemaker-training); for smddp also SMDDP."
        yield unknown("image", f"{job.image} is not checked.", fix)


def _role(job: TrainingJob, session: Any, known: dict[str, str]) -> Iterator[Finding]:
    role = job.role
    if role is None:
        helper = _sdk(_SESSION, "role", "--role")
        role = str(helper.get_execution_role(helper.Session(boto_session=session)))
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
        yield ok("role", f"{found['Arn']} trusts SageMaker.")
        return
    what = f"{found['Arn']} does not trust sagemaker.amazonaws.com, but {', '.join(trusted) or 'no service'}."
    yield fail("role", what, "HINT: add it to the role's trust policy.")


def _output(job: TrainingJob, session: Any, known: dict[str, str]) -> Iterator[Finding]:
    known["output"] = (job.output_uri or f"s3://{default_bucket(session, create=False)}").rstrip("/")
    yield ok("outputs", f"{known['output']}/NAME: source, model.tar.gz, output.tar.gz.")


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


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
