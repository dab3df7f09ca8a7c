"""All checks of a job before money is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_sagemaker.findings import Finding
from lightning_sagemaker.submit import local_checks

if TYPE_CHECKING:
    from lightning_sagemaker.submit.description import JobDescription


def check(job: JobDescription, session: Any = None, *, simulate_first: bool = False) -> list[Finding]:  # noqa: ANN401
    """Check a job; nothing is changed and nothing is sent.

    Args:
        job: The job.
        session: A ``boto3.Session``, with which AWS is asked too.
        simulate_first: Also run the script for one batch on this machine, unless something else fails already.

    Returns:
        All that was checked, in order; see :class:`~lightning_sagemaker.findings.Finding`.
    """
    findings = local_checks.check(job)
    if session is None:
        fix = "HINT: pip install 'lightning-sagemaker[submit]'."
        findings.append(Finding("AWS", "warn", "security groups, role and S3 are not checked, without boto3.", fix))
    else:
        from lightning_sagemaker.submit import aws_checks  # noqa: PLC0415 - imports botocore, of an extra

        findings += aws_checks.check(job, session)
    if simulate_first and not any(finding.level == "fail" for finding in findings):
        findings.append(local_checks.simulate(job))
    return findings
