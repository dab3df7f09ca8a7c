"""Sends a job: its source to S3, its request to SageMaker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.source_folder import read
from lightning_sagemaker.submit import requirements
from lightning_sagemaker.submit.checks import examine
from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import ARCHIVE, UNKNOWN, request
from lightning_sagemaker.submit.source import archive

if TYPE_CHECKING:
    from lightning_sagemaker.submit.request import Resolved
    from lightning_sagemaker.submit.training_job import TrainingJob


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
    whole = complete(job)
    resolved, findings = examine(whole, session)
    if failed := [one for one in findings if one.level == "fail"]:
        raise ValueError(f"{failed[0].name}: {failed[0].what} {failed[0].fix}")
    send(whole, resolved, session)
    return resolved.name


def send(job: TrainingJob, resolved: Resolved, session: Any) -> None:
    """Send a job that has been checked.

    Args:
        job: The job; what it leaves out has been chosen.
        resolved: What else its request names.
        session: Session of boto3.
    """
    made = request(job, resolved)
    if UNKNOWN in (made["RoleArn"], resolved.image, resolved.output):
        raise ValueError(
            "The request is not complete: see the checks of image, role and outputs. HINT: --dry-run shows it."
        )
    from lightning_sagemaker.submit.resolving import make_bucket  # needs botocore

    make_bucket(job, session)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, ARCHIVE)
        archive(job, read(job.folder), target, requirements.wheels(job, Path(folder)))
        bucket, _, key = resolved.source.removeprefix("s3://").partition("/")
        encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": job.output_kms_key}
        options = encrypted if job.output_kms_key else None
        session.client("s3").upload_file(str(target), bucket, key, ExtraArgs=options)
    session.client("sagemaker").create_training_job(**made)
