"""Training jobs: described, checked before money is spent, and sent with SageMaker's Python SDK v3 or v2.

Example::

    job = describe("train.py", instance_type="ml.p4d.24xlarge", instance_count=4, strategy="smddp", sdk="v2")
    print(job)
    print(check(job))
    name = start(job, boto3.Session())
"""

from lightning_sagemaker.submit.checks import check
from lightning_sagemaker.submit.choices import describe
from lightning_sagemaker.submit.description import JobDescription
from lightning_sagemaker.submit.sdk import start

__all__ = ["JobDescription", "check", "describe", "start"]
