"""All checks of a job before money is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_sagemaker.findings import Finding, finding
from lightning_sagemaker.submit import local_checks, sdk

if TYPE_CHECKING:
    from lightning_sagemaker.submit.description import JobDescription


def check(job: JobDescription, session: Any = None, *, simulate_first: bool = False) -> list[Finding]:
    """Check a job; nothing is changed and nothing is sent.

    Args:
        job: The job.
        session: A ``boto3.Session``, with which AWS is asked too.
        simulate_first: Also run the script for one batch on this machine, unless something else fails already.

    Returns:
        All that was checked, in order; see :class:`~lightning_sagemaker.findings.Finding`.
    """
    findings = [*local_checks.check(job), _check_image(job, session)]
    if session is None:
        fix = "HINT: pip install 'lightning-sagemaker[submit]'."
        findings.append(Finding("AWS", "unknown", "nothing is asked of AWS, without boto3.", fix))
    else:
        from lightning_sagemaker.submit import aws_checks

        findings += aws_checks.check(job, session)
    if simulate_first and not any(finding.level == "fail" for finding in findings):
        findings.append(local_checks.simulate(job))
    return findings


def _check_image(job: JobDescription, session: Any) -> Finding:
    """The SDK that is to send the job is there, and knows the image."""
    try:
        sdk.require(job)
        if job.image is not None:
            return Finding(
                "image",
                "warn",
                f"{job.image} is unknown to these checks.",
                "HINT: it needs torch, and the training toolkit for SDK v2; for smddp also SMDDP.",
            )
    except ImportError as error:
        return finding("SDK", "fail", str(error))
    try:
        return Finding("image", "ok", f"{sdk.image_uri(job, getattr(session, 'region_name', None) or 'us-east-1')}.")
    except ValueError as error:
        return finding("image", "fail", str(error))
    except ImportError as error:
        what = f"AWS's PyTorch training image {job.torch_version}: the SDK cannot be asked for it: {error}."
        return Finding("image", "unknown", what, "HINT: --image with a URI.")
