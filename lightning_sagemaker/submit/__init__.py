"""Describes training jobs, checks them before money is spent, and sends them to SageMaker as one request.

Example::

    job = TrainingJob("train.py", instance_type="ml.p4d.24xlarge", instance_count=4, strategy="ddp")
    session = boto3.Session()
    for finding in check(job, session):
        print(finding)
    name = start(job, session)
"""

from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import Resolved, request
from lightning_sagemaker.submit.sending import check, start
from lightning_sagemaker.submit.training_job import Channel, InstanceGroup, TrainingJob

__all__ = ["Channel", "InstanceGroup", "Resolved", "TrainingJob", "check", "complete", "request", "start"]
