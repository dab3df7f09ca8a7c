"""From a notebook: describe a job, check it, send it, follow it.

Cells begin with `# %%`: editors and `jupytext` open this file as a notebook. Run it where `examples` lies, after
pip install "lightning-sagemaker[submit]" sagemaker
"""

# %% Where it runs: your role and bucket
import os

import boto3

from lightning_sagemaker.jobs import follow
from lightning_sagemaker.submit import TrainingJob, check, start

role = os.environ["TRAINING_ROLE"]
bucket = os.environ["TRAINING_BUCKET"]
session = boto3.Session()

# %% The job: two hosts of eight GPUs on spot instances; nothing is sent yet
job = TrainingJob(
    "examples/digits/train.py",
    instance_type="ml.p4d.24xlarge",
    instance_count=2,
    strategy="ddp",
    arguments=["--epochs", "30"],
    role=role,
    output_uri=f"s3://{bucket}/digits",
    checkpoint_uri=f"s3://{bucket}/digits/checkpoints",
    spot=True,
    max_run=3600,
    metrics=["val_accuracy"],
)
print(job)

# %% Before money is spent
findings = check(job, session)
for finding in findings:
    print(finding.level, finding.name, finding.what, finding.fix)

# %% Send it, and follow it to its end
if not any(finding.level == "fail" for finding in findings):
    name = start(job, session)
    print(name)
    if os.environ.get("FOLLOW") != "0":
        follow(name, session)
