"""The CreateTrainingJob request of a job; the dry run prints it exactly as it is sent.

It is the request by which SDK v2's estimators let the image's own training toolkit start the script, so that each
launcher of the toolkit can be had whatever SDK is installed. Tests compare it with what both SDKs send for such a job.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import metrics
from lightning_sagemaker.arguments import ENTRY
from lightning_sagemaker.findings import Finding, fail, ok, unknown
from lightning_sagemaker.job.channels import SHARDED
from lightning_sagemaker.launch_modes import MODES, PROCESSES, flags, toolkit
from lightning_sagemaker.redaction import MASK, redact
from lightning_sagemaker.submit.training_job import Channel, InstanceGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.submit.training_job import TrainingJob

ARCHIVE = "sourcedir.tar.gz"
_CODE = "code"  # channel of the source, as the SDKs name it
UNKNOWN = "(unknown)"  # stands in a dry run's request for what could not be found out
_STRATEGY = "PL_TRAINER_STRATEGY"
# Fields of a job, where the request has them, and as which type.
_PLACES: dict[str, tuple[str, type]] = {
    "role": ("RoleArn", str),
    "image": ("AlgorithmSpecification.TrainingImage", str),
    "env": ("Environment", dict),
    "output_uri": ("OutputDataConfig.S3OutputPath", str),
    "output_kms_key": ("OutputDataConfig.KmsKeyId", str),
    "instance_type": ("ResourceConfig.InstanceType", str),
    "instance_count": ("ResourceConfig.InstanceCount", int),
    "volume_gb": ("ResourceConfig.VolumeSizeInGB", int),
    "volume_kms_key": ("ResourceConfig.VolumeKmsKeyId", str),
    "keep_alive": ("ResourceConfig.KeepAlivePeriodInSeconds", int),
    "training_plan": ("ResourceConfig.TrainingPlanArn", str),
    "max_run": ("StoppingCondition.MaxRuntimeInSeconds", int),
    "max_wait": ("StoppingCondition.MaxWaitTimeInSeconds", int),
    "subnets": ("VpcConfig.Subnets", list),
    "security_groups": ("VpcConfig.SecurityGroupIds", list),
    "checkpoint_uri": ("CheckpointConfig.S3Uri", str),
    "retries": ("RetryStrategy.MaximumRetryAttempts", int),
    "spot": ("EnableManagedSpotTraining", bool),
    "network_isolation": ("EnableNetworkIsolation", bool),
    "encrypt_traffic": ("EnableInterContainerTrafficEncryption", bool),
}
_ONLY_SENT = ("volume_gb", "retries")  # not read back: the API's limits are wider than the options', as 0 GB
_GROUP: dict[str, type] = {"InstanceGroupName": str, "InstanceType": str, "InstanceCount": int}
_PLACE = "DataSource.S3DataSource"


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
        "AlgorithmSpecification": {
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": name, "Regex": metrics.pattern(name)} for name in job.metrics],
        },
        "HyperParameters": {name: json.dumps(value) for name, value in _hyperparameters(job, resolved).items()},
        "ProfilerConfig": {"DisableProfiler": True},  # it takes time of the instances, and nobody asked for it
    }
    found: dict[str, str | None] = {"role": resolved.role, "image": resolved.image, "output_uri": resolved.output}
    if job.instance_groups:
        found["instance_count"] = None
        groups = ((name, one.instance_type, one.instance_count) for name, one in job.groups.items())
        made["ResourceConfig"] = {"InstanceGroups": [dict(zip(_GROUP, one, strict=True)) for one in groups]}
    for name, (path, kind) in _PLACES.items():
        value = found.get(name, getattr(job, name))
        if not (value is None or value is False or value == ()):
            # A copy, since `set` may add to it; a value of a wrong type is left to the check of the request.
            _set(made, path.split("."), kind(value) if kind in (list, dict) else value)
    channels = [_channel(name, channel) for name, channel in job.inputs.items()]
    if channels:
        made["InputDataConfig"] = channels
    if job.tags:
        made["Tags"] = [{"Key": key, "Value": value} for key, value in job.tags.items()]
    for path, value in job.set.items():
        _set(made, path.split("."), value)
    if job.network_isolation:  # the toolkit reaches no S3, so the service brings the source, as for the SDKs
        channels = made.setdefault("InputDataConfig", [])
        if isinstance(channels, list):  # else the check of the request says so
            made["InputDataConfig"] = [*channels, _channel(_CODE, Channel(resolved.source))]
    return made


def _hyperparameters(job: TrainingJob, resolved: Resolved) -> dict[str, object]:
    carried = job.carried
    source = f"/opt/ml/input/data/{_CODE}/{ARCHIVE}" if job.network_isolation else resolved.source
    own: dict[str, object] = {
        **carried.hyperparameters,
        **toolkit(ENTRY if carried.by_entry_script else job.entry, source, resolved.name, resolved.region),
        **flags(job.launcher or "none"),
    }
    if job.launcher in ("torchrun", "smddprun") and not job.instance_groups:
        own["sagemaker_instance_type"] = job.instance_type
    if job.processes_per_host is not None:
        own[PROCESSES] = job.processes_per_host
    if job.instance_groups and job.launcher != "none":
        own["sagemaker_distribution_instance_groups"] = [next(iter(job.instance_groups))]
    return own


def _channel(name: str, channel: Channel) -> dict[str, Any]:
    place = {"S3DataType": "S3Prefix", "S3Uri": channel.uri, "S3DataDistributionType": channel.distribution}
    mode = {"InputMode": channel.input_mode} if channel.input_mode else {}
    return {"ChannelName": name, "DataSource": {"S3DataSource": place}, **mode}


def as_sent(job: TrainingJob) -> TrainingJob:
    """The same job with its fields as the request has them: ``set`` and a variable for the strategy come first.

    Choices, checks and whoever follows the job go by its fields, so they must be what is sent. A value of a wrong type,
    which only ``set`` can bring, is left to the check of the request.
    """
    if not job.set and _STRATEGY not in job.env:
        return job
    made = request(job, Resolved(UNKNOWN, UNKNOWN))
    given: dict[str, Any] = {
        field: [*map(str, found)] if kind is list else found
        for field, (path, kind) in _PLACES.items()
        if field not in _ONLY_SENT and (found := _at(made, path, kind)) is not None
    }
    flags_of = _at(made, "HyperParameters", dict) or {}
    given["strategy"] = given.get("env", {}).get(_STRATEGY, job.strategy)
    given["launcher"] = next((name for name, mode in MODES.items() if flags_of.get(mode.flag) == "true"), job.launcher)
    if str(flags_of.get(PROCESSES)).isdecimal():
        given["processes_per_host"] = int(flags_of[PROCESSES])
    if groups := _at(made, "ResourceConfig.InstanceGroups", list):
        read = [[_at(one, name, kind) for name, kind in _GROUP.items()] for one in groups]
        given["instance_groups"] = {one[0]: InstanceGroup(*one[1:]) for one in read if None not in one}
    given["channels"] = {
        name: Channel(uri, _at(one, f"{_PLACE}.S3DataDistributionType", str) == SHARDED, _at(one, "InputMode", str))
        for one in _at(made, "InputDataConfig", list) or ()
        if (name := _at(one, "ChannelName", str)) not in (None, _CODE if job.network_isolation else None)
        and (uri := _at(one, f"{_PLACE}.S3Uri", str))
    }
    return job.changed(**given)


def _at(content: Any, path: str, kind: type) -> Any:
    """What stands there in a request; ``None`` for nothing, for what is not known yet, and for another type."""
    for name in path.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, kind) and content != UNKNOWN else None


def shown(request: dict[str, Any]) -> str:
    """A request as JSON to be shown: without the values of variables and arguments that are secrets."""
    masked = {
        part: {name: MASK if is_secret(name, value) else value for name, value in request[part].items()}
        for part in ("HyperParameters", "Environment")
        if isinstance(request[part], dict)
    }
    return json.dumps({**request, **masked}, indent=2)


def is_secret(name: str, value: object) -> bool:
    """Whether the value of a variable or argument of this name is not to be shown."""
    return redact(f"{name}={value}") != f"{name}={value}"


def _set(made: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value into the request; mappings are merged."""
    *folders, last = path
    for depth, name in enumerate(folders, 1):
        made = made.setdefault(name, {})
        if not isinstance(made, dict):
            found = {list: "a list", str: "a text"}.get(type(made), "no object")
            place = ".".join(folders[:depth])
            raise ValueError(
                f"`set` has {'.'.join(path)}, but {place} of the request is {found}, which has no names. HINT: --set"
                f" {place}=JSON sets all of it."
            )
    if isinstance(value, dict) and isinstance(made.get(last), dict):
        for name, one in value.items():
            _set(made[last], [name], one)
    else:
        made[last] = value


def check_limits(request: dict[str, Any]) -> Iterator[Finding]:
    """Everything in a request that SageMaker would refuse, by botocore's model of the API, without asking AWS."""
    try:
        from botocore.session import get_session
        from botocore.validate import ParamValidator
    except ImportError:
        what = "not checked: botocore, which knows the API's limits, is not installed."
        yield unknown("request", what, "HINT: pip install 'lightning-sagemaker[submit]'.")
        return
    shape = get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    report = ParamValidator().validate(request, shape).generate_report()
    # Names and types; all limits, and patterns and words, which botocore leaves to the service, are measured below.
    lines = [line for line in report.splitlines() if not line.startswith(("Invalid length", "Invalid range"))]
    fix = "HINT: --set, or a boto3 that knows the name: pip install -U boto3."
    found = [*(fail("request", line, fix) for line in lines), *_wrong(request, shape, "")]
    yield from found or [ok("request", "within the limits of the API, by boto3's model.")]


def _wrong(value: Any, shape: Any, path: str) -> Iterator[Finding]:
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value:
                yield from _wrong(value[name], member, f"{path}.{name}" if path else name)
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _beyond(len(value), shape, path, " elements")
        for number, one in enumerate(value):
            yield from _wrong(one, shape.member, f"{path}[{number}]")
    elif shape.type_name == "map" and isinstance(value, dict):
        yield from _beyond(len(value), shape, path, " entries")
        for name, one in value.items():
            yield from _wrong(name, shape.key, f"{path} (name)")
            yield from _wrong(one, shape.value, f"{path}.{name}")
    elif shape.type_name == "string" and isinstance(value, str) and UNKNOWN not in value:
        yield from _wrong_text(value, shape, path)
    elif isinstance(value, int):
        yield from _beyond(value, shape, path, "")


def _wrong_text(value: str, shape: Any, path: str) -> Iterator[Finding]:
    yield from _beyond(len(value), shape, path, " characters")
    if shape.enum and value not in shape.enum:
        near = " or ".join(difflib.get_close_matches(value, shape.enum, 3))
        fix = f"HINT: {near}{'? ' if near else ''}A newer name needs a newer boto3: pip install -U boto3."
        yield fail(path, f"{value} is not a value that boto3 knows.", fix)
    pattern = shape.metadata.get("pattern")
    try:
        fits = pattern is None or re.fullmatch(pattern, value, re.DOTALL)
    except re.error:  # Java's own syntax
        return
    if not fits:
        yield fail(path, f"{value!r} does not fit the API's pattern {pattern}.", "HINT: choose another name.")


def _beyond(number: int, shape: Any, path: str, unit: str) -> Iterator[Finding]:
    limits = shape.metadata
    if not limits.get("min", number) <= number <= limits.get("max", number):
        told = " to ".join(str(limits[name]) for name in ("min", "max") if name in limits)
        yield fail(path, f"{number}{unit}, but SageMaker takes {told}.", "HINT: within these limits.")
