"""Checks a job before money is spent on it, and sends it: its source to S3, its request to SageMaker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_sagemaker.findings import Finding, fail, unknown
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.source_folder import Source, read
from lightning_sagemaker.submit import local_checks
from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import ARCHIVE, UNKNOWN, Resolved, check_limits, request
from lightning_sagemaker.submit.source import archive, built, check_source, wheels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_sagemaker.submit.training_job import TrainingJob

_NO_SESSION = "nothing was asked of AWS, without a session. HINT: check(job, boto3.Session())."


class Prepared(NamedTuple):
    """A job as it would be sent, and what its checks have found; the source folder is read once for all of it."""

    job: TrainingJob  # what its description leaves out has been chosen
    source: Source
    resolved: Resolved
    request: dict[str, Any]
    findings: list[Finding]


def check(job: TrainingJob, session: Any = None) -> list[Finding]:
    """Check a job; nothing is changed and nothing is sent.

    Args:
        job: The job.
        session: A ``boto3.Session``, with which AWS is asked too.

    Returns:
        All that was checked, in order; see :class:`~lightning_sagemaker.findings.Finding`.
    """
    return prepare(job, session).findings


def prepare(job: TrainingJob, session: Any) -> Prepared:
    """Choose what a job leaves out, check it, and make its request; AWS is asked where there is a session of boto3."""
    source = read(job.folder)
    job = complete(job, source)
    resolved = Resolved(str(job.name), getattr(session, "region_name", None) or UNKNOWN)
    of_source, kind, of_aws = [*check_source(job, source)], None, []
    if session is None:
        answers = [unknown("AWS", _NO_SESSION)]
    else:
        from lightning_sagemaker.submit import aws_checks

        who = aws_checks.check_region(session) or aws_checks.check_identity(session)
        answers = [who]
        if who.level != "fail" and who.fix != aws_checks.UNREACHABLE:  # else every other question waits for nothing
            kind = aws_checks.described(job, session)
            resolved, more = aws_checks.resolve(job, session)
            answers += more
            of_aws = aws_checks.check(job, session, kind)
    made = request(job, resolved)
    if of_aws and _is_incomplete(made, resolved):
        fix = "HINT: --role with an ARN, --image, --output-uri: what is given need not be asked."
        of_aws.append(
            fail("request", "it is not complete, and so would not be sent: see role, image and outputs.", fix)
        )
    findings = [*of_source, *local_checks.check(job, kind), *answers, *check_limits(made), *of_aws]
    return Prepared(job, source, resolved, made, findings)


def start(job: TrainingJob, session: Any) -> str:
    """Check and send a job, without waiting for it.

    Args:
        job: The job.
        session: Session of boto3.

    Returns:
        The job's name.

    Raises:
        ValueError: A check has failed; the message names it.
    """
    prepared = prepare(job, session)
    if failed := [one for one in prepared.findings if one.level == "fail"]:
        raise ValueError(f"{failed[0].name}: {failed[0].what} {failed[0].fix}")
    return send(prepared, session)


def _is_incomplete(made: Mapping[str, Any], resolved: Resolved) -> bool:
    return UNKNOWN in (made["RoleArn"], resolved.image, resolved.output)


def send(prepared: Prepared, session: Any) -> str:
    """Send a job; its name."""
    job, source, resolved, made, _ = prepared
    if _is_incomplete(made, resolved):
        raise ValueError(
            "The request is not complete: see the checks of image, role and outputs. HINT: --dry-run shows it."
        )
    if job.output_uri is None:
        from lightning_sagemaker.submit.aws_checks import default_bucket  # needs botocore

        default_bucket(session, create=True)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, ARCHIVE)
        archive(job, source, target, [built(path, Path(folder)) for path in wheels(job)])
        key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": job.output_kms_key} if job.output_kms_key else None
        session.client("s3").upload_file(str(target), *aws.place(resolved.source), ExtraArgs=key)
    session.client("sagemaker").create_training_job(**made)
    return resolved.name
