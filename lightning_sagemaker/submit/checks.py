"""All checks of a job before money is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_sagemaker.findings import unknown
from lightning_sagemaker.submit import local_checks, source_checks
from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import UNKNOWN, Resolved, request

if TYPE_CHECKING:
    from lightning_sagemaker.findings import Finding
    from lightning_sagemaker.submit.training_job import TrainingJob


def check(job: TrainingJob, session: Any = None) -> list[Finding]:
    """Check a job; nothing is changed and nothing is sent.

    Args:
        job: The job.
        session: A ``boto3.Session``, with which AWS is asked too.

    Returns:
        All that was checked, in order; see :class:`~lightning_sagemaker.findings.Finding`.
    """
    return examine(complete(job), session)[1]


def examine(job: TrainingJob, session: Any) -> tuple[Resolved, list[Finding]]:
    """Check a job, and find the values that its request needs beyond its description.

    Args:
        job: The job; what it leaves out has been chosen.
        session: Session of boto3, or ``None``.
    """
    found = [*source_checks.check(job)]
    nothing = Resolved(str(job.name), getattr(session, "region_name", None) or UNKNOWN)
    if session is None:
        text = "nothing was asked of AWS: boto3 is not installed. HINT: pip install 'lightning-sagemaker[submit]'."
        return nothing, [*found, *local_checks.check(job), unknown("AWS", text)]
    from lightning_sagemaker.submit import api_model, aws_checks, resolving

    wrong = aws_checks.check_region(session)
    who = wrong or aws_checks.check_identity(session)
    if who.level == "fail" or who.fix == aws_checks.UNREACHABLE:  # every other question would wait for nothing
        return nothing, [*found, *local_checks.check(job), who]
    found += local_checks.check(job, aws_checks.described(job, session))
    resolved, more = resolving.resolve(job, session)
    model = session.client("sagemaker").meta.service_model
    found += [who, *more, *api_model.check(request(job, resolved), model), *aws_checks.check(job, session)]
    return resolved, found
