"""Runs a job description with SDK v3's ``ModelTrainer``."""

from __future__ import annotations

import json
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.shapes import CheckpointConfig, OutputDataConfig, S3DataSource
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import (
    Compute,
    InputData,
    MetricDefinition,
    Networking,
    RetryStrategy,
    SourceCode,
    StoppingCondition,
)
from sagemaker.train.distributed import MPI, DistributedConfig, Torchrun

from lightning_sagemaker.job.channels import SHARDED
from lightning_sagemaker.submit.source import REQUIREMENTS, stage

if TYPE_CHECKING:
    from lightning_sagemaker.submit.description import JobDescription


def start(job: JobDescription, image_uri: str, session: Any) -> str:
    """Send a job.

    Args:
        job: The job.
        image_uri: Its image.
        session: Session of boto3.

    Returns:
        The job's name.
    """
    stopping = {"max_runtime_in_seconds": job.max_run, "max_wait_time_in_seconds": job.max_wait}
    in_vpc = job.subnets or job.security_group_ids
    sagemaker_session = Session(boto_session=session, default_bucket=job.bucket)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        stage(job.source_dir, source, job.requirements, job.wheels)
        hyperparameters = {name: _as_it_is(value) for name, value in job.hyperparameters.items()}
        code = SourceCode(source_dir=str(source), entry_script=job.script, requirements=REQUIREMENTS)
        if job.launcher == "smddprun":
            hyperparameters, code = _for_the_toolkit(job, _upload(job, source, sagemaker_session)), None
        trainer = ModelTrainer(
            training_image=image_uri,
            base_job_name=job.name,
            role=job.role,
            source_code=code,
            distributed=_distributed(job),
            compute=Compute(
                instance_type=job.instance_type,
                instance_count=job.instance_count,
                volume_size_in_gb=job.volume_gb,
                enable_managed_spot_training=job.spot,
            ),
            networking=Networking(subnets=list(job.subnets), security_group_ids=list(job.security_group_ids))
            if in_vpc
            else None,
            stopping_condition=StoppingCondition(
                **{key: value for key, value in stopping.items() if value is not None}
            ),
            output_data_config=OutputDataConfig(s3_output_path=job.output_s3_uri) if job.output_s3_uri else None,
            checkpoint_config=CheckpointConfig(s3_uri=job.checkpoint_s3_uri) if job.checkpoint_s3_uri else None,
            hyperparameters=hyperparameters,
            environment=dict(job.environment),
            sagemaker_session=sagemaker_session,
        )
        trainer.with_metric_definitions(
            [MetricDefinition(name=name, regex=regex) for name, regex in job.metrics.items()]
        )
        if job.retries is not None:
            trainer.with_retry_strategy(RetryStrategy(maximum_retry_attempts=job.retries))
        channels = [
            InputData(channel_name=name, data_source=_sharded(uri) if name in job.sharded else uri)
            for name, uri in job.channels.items()
        ]
        trainer.train(input_data_config=channels or None, wait=False, logs=False)
    return str(trainer._latest_training_job.training_job_name)  # noqa: SLF001 - the SDK offers no other way


def _sharded(uri: str) -> S3DataSource:
    return S3DataSource(s3_data_type="S3Prefix", s3_uri=uri, s3_data_distribution_type=SHARDED)


def _distributed(job: JobDescription) -> DistributedConfig | None:
    if job.launcher == "torchrun":
        return Torchrun(process_count_per_node=job.processes_per_host)
    if job.launcher == "mpirun":
        # The driver's own `-np` counts one host only, so that mpirun leaves the others idle; a later one wins.
        world_size = (job.processes_per_host or 1) * job.instance_count
        return MPI(process_count_per_node=job.processes_per_host, mpi_additional_options=["-np", str(world_size)])
    return None


def _for_the_toolkit(job: JobDescription, source_uri: str) -> dict[str, str]:
    """Hyperparameters with which the image's own training toolkit starts the script under SMDDP's launcher.

    SDK v3's drivers have none. Without a source folder of the SDK's, the image's entry point runs, which is the toolkit
    that SDK v2's jobs run, and it reads the same hyperparameters (all of them JSON).
    """
    given = {
        **job.hyperparameters,
        "sagemaker_program": job.script,
        "sagemaker_submit_directory": source_uri,
        "sagemaker_distributed_dataparallel_enabled": True,
        "sagemaker_distributed_dataparallel_custom_mpi_options": "",
        "sagemaker_instance_type": job.instance_type,
        "sagemaker_container_log_level": 20,
        "sagemaker_job_name": job.name,
    }
    return {name: json.dumps(value) for name, value in given.items()}


def _upload(job: JobDescription, source: Path, session: Session) -> str:
    archive = source.with_name("sourcedir.tar.gz")
    with tarfile.open(archive, "w:gz") as file:
        for path in sorted(source.iterdir()):
            file.add(path, path.name)
    bucket, key = session.default_bucket(), f"{job.name}/{time.time_ns()}/source/sourcedir.tar.gz"
    session.boto_session.client("s3").upload_file(str(archive), bucket, key)
    return f"s3://{bucket}/{key}"


def _as_it_is(value: str) -> str:
    """A value so that it arrives unchanged: the drivers read JSON where they can; ``1e-3`` would become ``0.001``."""
    with suppress(ValueError):
        if json.loads(value) != value:
            return json.dumps(value)
    return value
