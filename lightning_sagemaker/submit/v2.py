"""Runs a job description with SDK v2's ``PyTorch`` estimator."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sagemaker
from sagemaker.inputs import TrainingInput
from sagemaker.pytorch import PyTorch

from lightning_sagemaker.job.channels import SHARDED
from lightning_sagemaker.submit.source import stage

if TYPE_CHECKING:
    from lightning_sagemaker.submit.description import JobDescription


def start(job: JobDescription, image_uri: str, session: Any) -> str:
    """Send a job.

    Args:
        job: The job.
        image_uri: Its image; given as a URI, since the SDK's list of versions with SMDDP ends at 2.2.0.
        session: Session of boto3.

    Returns:
        The job's name.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        stage(job.source_dir, source, job.requirements, job.wheels)
        estimator = PyTorch(
            entry_point=job.script,
            source_dir=str(source),
            base_job_name=job.name,
            image_uri=image_uri,
            role=job.role or sagemaker.get_execution_role(),
            instance_type=job.instance_type,
            instance_count=job.instance_count,
            volume_size=job.volume_gb,
            distribution=_distribution(job),
            hyperparameters=dict(job.hyperparameters),
            environment=dict(job.environment),
            checkpoint_s3_uri=job.checkpoint_s3_uri,
            output_path=job.output_s3_uri,
            code_location=job.output_s3_uri,
            subnets=list(job.subnets) or None,
            security_group_ids=list(job.security_group_ids) or None,
            use_spot_instances=job.spot,
            max_run=job.max_run,
            max_wait=job.max_wait,
            max_retry_attempts=job.retries,
            metric_definitions=[{"Name": name, "Regex": regex} for name, regex in job.metrics.items()],
            disable_profiler=True,  # it takes time of the instance, and nobody asked for it
            sagemaker_session=sagemaker.Session(boto_session=session, default_bucket=job.bucket),
        )
        channels: dict[str, Any] = {
            name: TrainingInput(uri, distribution=SHARDED) if name in job.sharded else uri
            for name, uri in job.channels.items()
        }
        estimator.fit(channels or None, wait=False)
    return str(estimator.latest_training_job.name)


def _distribution(job: JobDescription) -> dict[str, Any]:
    processes = {} if job.processes_per_host is None else {"processes_per_host": job.processes_per_host}
    distributions: dict[str, dict[str, Any]] = {
        "torchrun": {"torch_distributed": {"enabled": True}},
        "smddprun": {"smdistributed": {"dataparallel": {"enabled": True}}},
        "mpirun": {"mpi": {"enabled": True, **processes}},
        "none": {},
    }
    return distributions[job.launcher]
