"""Sends a job: its source to S3, its request to SageMaker."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.arguments import carry
from lightning_sagemaker.source_folder import link_within, read
from lightning_sagemaker.submit.checks import examine
from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import ARCHIVE, UNKNOWN, request
from lightning_sagemaker.submit.requirements import REQUIREMENTS, needed, wheels

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
    """Send a job that has been completed and checked."""
    made = request(job, resolved)
    if UNKNOWN in (made["RoleArn"], resolved.image, resolved.output):
        raise ValueError(
            "The request is not complete: see the checks of image, role and outputs. HINT: --dry-run shows it."
        )
    if job.output_uri is None:
        from lightning_sagemaker.submit.resolving import default_bucket  # needs botocore

        default_bucket(session, create=True)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, ARCHIVE)
        archive(job, target, wheels(job, Path(folder)))
        bucket, _, key = resolved.source.removeprefix("s3://").partition("/")
        key_options = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": job.output_kms_key}
        session.client("s3").upload_file(
            str(target), bucket, key, ExtraArgs=key_options if job.output_kms_key else None
        )
    session.client("sagemaker").create_training_job(**made)


def archive(job: TrainingJob, target: Path, wheels: list[Path]) -> None:
    """Write the archive that is sent; the user's folder is not changed.

    Args:
        job: The job.
        target: The archive.
        wheels: Wheels that lie beside ``requirements.txt``, which names them.
    """
    carried = carry(job.arguments)
    own = job.folder / REQUIREMENTS
    lines = [own.read_text(encoding="utf-8").rstrip("\n")] if own.is_file() else []
    with tarfile.open(target, "w:gz") as tar, tempfile.TemporaryDirectory() as folder:
        for name in (name for name in read(job.folder).files if name != REQUIREMENTS):
            member = tar.gettarinfo(job.folder / name, name)
            if member.issym():
                member.linkname = link_within(job.folder, name)
                tar.addfile(member)
            else:
                tar.add(job.folder / name, name)
        if carried.by_entry_script:
            carried.write(Path(folder), job.entry)
        text = "\n".join([*lines, *needed(job, wheels)]).lstrip("\n") + "\n"
        Path(folder, REQUIREMENTS).write_text(text, encoding="utf-8")
        for path in (*Path(folder).iterdir(), *wheels):
            tar.add(path, path.name)
