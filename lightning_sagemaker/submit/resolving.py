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
from lightning_sagemaker.submit.choices import repository_and_tag
from lightning_sagemaker.submit.request import Resolved

if TYPE_CHECKING:
    from lightning_sagemaker.submit.training_job import TrainingJob

_IMAGES = ("sagemaker.image_uris", "sagemaker.core.image_uris")  # v2's, v3's
_SESSION = ("sagemaker.session", "sagemaker.core.helper.session_helper")


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
    arn = known["role"] = found["Arn"]
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
