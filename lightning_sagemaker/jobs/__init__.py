"""Training jobs that were sent: lists, describes, follows and stops them, and downloads what they wrote.

Example::

    print(jobs(limit=5))
    print(job("digits-2026-12-01"))
    print(logs("digits-2026-12-01", tail=20))
    stop("digits-2026-12-01")
    download("digits-2026-12-01", model=True)
"""

from lightning_sagemaker.jobs.description import Job
from lightning_sagemaker.jobs.downloads import Download, download
from lightning_sagemaker.jobs.following import Stop, follow, stop
from lightning_sagemaker.jobs.listing import Jobs, job, jobs
from lightning_sagemaker.jobs.log import Line, Lines, logs

__all__ = ["Download", "Job", "Jobs", "Line", "Lines", "Stop", "download", "follow", "job", "jobs", "logs", "stop"]
