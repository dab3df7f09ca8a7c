"""The CreateTrainingJob request of a job; the dry run prints it exactly as it is sent.

It is the request by which SDK v2's estimators let the image's own training toolkit start the script, so that each
launcher of the toolkit can be had whatever SDK is installed. Tests compare it with what both SDKs send for such a job.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import metrics
from lightning_sagemaker.arguments import ENTRY, carry
from lightning_sagemaker.launch_modes import PROCESSES, flags
from lightning_sagemaker.redaction import MASK, redact
from lightning_sagemaker.submit.training_job import Channel

if TYPE_CHECKING:
    from lightning_sagemaker.submit.training_job import TrainingJob

_LOG_LEVEL = 20
ARCHIVE = "sourcedir.tar.gz"
_CODE = "code"  # channel of the source, as the SDKs name it
UNKNOWN = "(unknown)"  # stands in a dry run's request for what could not be found out


@dataclass(frozen=True)
class Resolved:
    """What AWS and the SDK add to a job's description.

    Attributes:
        name: The job's name.
        region: AWS region.
        image: URI of the image.
        role: ARN of the execution role.
        output: Prefix in S3 for source, model and output, without a slash at its end.
    """

    name: str
    region: str
    image: str = UNKNOWN
    role: str = UNKNOWN
    output: str = UNKNOWN

    @property
    def source(self) -> str:
        """S3 URI of the source folder's archive."""
        return f"{self.output}/{self.name}/source/{ARCHIVE}"


def request(job: TrainingJob, resolved: Resolved) -> dict[str, Any]:
    """Arguments of boto3's ``create_training_job``, for a job that has been completed, and what else it names."""
    made: dict[str, Any] = {
        "TrainingJobName": resolved.name,
        "RoleArn": resolved.role,
        "AlgorithmSpecification": {
            "TrainingImage": resolved.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": name, "Regex": metrics.pattern(name)} for name in job.metrics],
        },
        "HyperParameters": {name: json.dumps(value) for name, value in _hyperparameters(job, resolved).items()},
        "Environment": dict(job.variables),
        "OutputDataConfig": _given(S3OutputPath=resolved.output, KmsKeyId=job.output_kms_key),
        "ResourceConfig": _resources(job),
        "StoppingCondition": _given(MaxRuntimeInSeconds=job.max_run, MaxWaitTimeInSeconds=job.max_wait),
        "ProfilerConfig": {"DisableProfiler": True},  # it takes time of the instances, and nobody asked for it
    }
    channels = [_channel(name, channel) for name, channel in job.inputs.items()]
    if job.network_isolation:  # the toolkit reaches no S3, so the service brings the source, as for the SDKs
        channels.append(_channel(_CODE, Channel(resolved.source)))
    if channels:
        made["InputDataConfig"] = channels
    if job.subnets or job.security_groups:
        made["VpcConfig"] = {"Subnets": [*job.subnets], "SecurityGroupIds": [*job.security_groups]}
    if job.checkpoint_uri is not None:
        made["CheckpointConfig"] = {"S3Uri": job.checkpoint_uri}
    if job.retries is not None:
        made["RetryStrategy"] = {"MaximumRetryAttempts": job.retries}
    if job.tags:
        made["Tags"] = [{"Key": key, "Value": value} for key, value in job.tags.items()]
    made |= _given(
        EnableManagedSpotTraining=job.spot or None,
        EnableNetworkIsolation=job.network_isolation or None,
        EnableInterContainerTrafficEncryption=job.encrypt_traffic or None,
    )
    for path, value in job.set.items():
        _set(made, path.split("."), value)
    return made


def _hyperparameters(job: TrainingJob, resolved: Resolved) -> dict[str, object]:
    carried = carry(job.arguments)
    own: dict[str, object] = {
        **carried.hyperparameters,
        "sagemaker_program": ENTRY if carried.by_entry_script else job.entry,
        "sagemaker_submit_directory": f"/opt/ml/input/data/{_CODE}/{ARCHIVE}"
        if job.network_isolation
        else resolved.source,
        "sagemaker_container_log_level": _LOG_LEVEL,
        "sagemaker_job_name": resolved.name,
        "sagemaker_region": resolved.region,
        **flags(job.launcher or "none"),
    }
    if job.launcher in ("torchrun", "smddprun") and not job.instance_groups:
        own["sagemaker_instance_type"] = job.instance_type
    if job.processes_per_host is not None:
        own[PROCESSES] = job.processes_per_host
    if job.instance_groups and job.launcher != "none":
        own["sagemaker_distribution_instance_groups"] = [next(iter(job.instance_groups))]
    return own


def _resources(job: TrainingJob) -> dict[str, Any]:
    groups = [
        {"InstanceGroupName": name, "InstanceType": group.instance_type, "InstanceCount": group.instance_count}
        for name, group in job.groups.items()
    ]
    return _given(
        InstanceType=job.instance_type,
        InstanceCount=None if job.instance_groups else job.instance_count,
        InstanceGroups=groups if job.instance_groups else None,
        VolumeSizeInGB=job.volume_gb,
        VolumeKmsKeyId=job.volume_kms_key,
        KeepAlivePeriodInSeconds=job.keep_alive,
        TrainingPlanArn=job.training_plan,
    )


def _channel(name: str, channel: Channel) -> dict[str, Any]:
    place = {"S3DataType": "S3Prefix", "S3Uri": channel.uri, "S3DataDistributionType": channel.distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": place}, **_given(InputMode=channel.input_mode)}


def shown(request: dict[str, Any]) -> str:
    """A request as JSON to be shown: without the values of variables and arguments that are secrets."""
    masked = {
        part: {name: _masked(name, value) for name, value in request[part].items()}
        for part in ("HyperParameters", "Environment")
    }
    return json.dumps({**request, **masked}, indent=2)


def _masked(name: str, value: str) -> str:
    return MASK if redact(f"{name}={value}") != f"{name}={value}" else value


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _set(made: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value into the request; mappings are merged."""
    *folders, last = path
    for name in folders:
        made = made.setdefault(name, {})
    if isinstance(value, dict) and isinstance(made.get(last), dict):
        for name, one in value.items():
            _set(made[last], [name], one)
    else:
        made[last] = value
