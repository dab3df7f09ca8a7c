"""Writes a job as code for a notebook, for SageMaker's SDK v2 or v3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from lightning_sagemaker.jobs import aws
from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.source_folder import REQUIREMENTS
from lightning_sagemaker.submit.request import UNKNOWN, Resolved, is_secret, request
from lightning_sagemaker.submit.source import described_wheels, needed

if TYPE_CHECKING:
    from lightning_sagemaker.submit.training_job import TrainingJob

_WIDTH = 100  # characters of a line
# Fields of a job that are arguments of SDK v2's estimator too.
_SAME = ("instance_type", "instance_count", "max_run", "max_wait", "training_plan", "output_kms_key", "volume_kms_key")


class _Code(str):
    """A piece of code, which stands in other code as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def notebook(
    job: TrainingJob, sdk: Literal["v2", "v3"], image: str, *, region: str | None = None, profile: str | None = None
) -> str:
    """Code that sends a job, which has been completed, with an image; a ``ValueError`` if the SDK cannot express it."""
    carried = job.carried
    if not carried.in_pairs:
        raise ValueError(
            f"The script's arguments are {list(job.arguments)}; the hyperparameters of an estimator become options of"
            " several letters with one value each. HINT: without --as-notebook, `submit` sends any arguments."
        )
    if job.set or job.instance_groups:
        raise ValueError(
            "`set` and `instance_groups` cannot be written as code. HINT: leave them out, and add them to the code."
        )
    wheels, origins = described_wheels(job)
    lines = [redact(f"#     {line}") for line in needed(job, wheels)]
    head = [f"# {job.folder}/{REQUIREMENTS} needs these lines, if it has none for them:", *lines]
    if wheels:  # which `submit` would send itself
        head.append(redact(f"# and {job.folder} needs these wheels, under those names: {origins}"))
    # The request in the API's words has most of the values; what only a session knows is left to the SDK.
    made = request(job, Resolved(str(job.name), "", image, output=job.output_uri or UNKNOWN))
    for part, given in (("HyperParameters", carried.hyperparameters), ("Environment", job.env)):
        made[part] = {
            name: _Code(f"os.environ[{name!r}]") if is_secret(name, value) else value for name, value in given.items()
        }
    if any(isinstance(one, _Code) for one in (*made["HyperParameters"].values(), *made["Environment"].values())):
        head.append("import os  # secrets stand in variables where this runs")
    session = _given("boto3.Session", region_name=region, profile_name=profile)
    if session is not None:
        head.append("import boto3")
    return "\n".join([*head, *(_v2 if sdk == "v2" else _v3)(job, made, session), ""])


def _v2(job: TrainingJob, made: dict[str, Any], boto: _Code | None) -> list[str]:
    session = boto and _call("sagemaker.Session", boto_session=boto)
    distribution = MODES[str(job.launcher)].v2
    if job.processes_per_host is not None:
        if job.launcher != "mpirun":
            raise ValueError(
                f"`processes_per_host` is {job.processes_per_host}; SDK v2 silently drops it for every launcher but"
                " mpirun. HINT: leave it out, or --launcher mpirun."
            )
        distribution = {"mpi": {"enabled": True, "processes_per_host": job.processes_per_host}}
    arguments = {
        "entry_point": job.entry,
        "source_dir": str(job.source_dir or job.path.parent),
        "image_uri": made["AlgorithmSpecification"]["TrainingImage"],
        "role": job.role or _call("sagemaker.get_execution_role", sagemaker_session=session),
        "volume_size": job.volume_gb,
        "distribution": distribution,
        "hyperparameters": made["HyperParameters"] or None,
        "environment": made["Environment"],
        "metric_definitions": made["AlgorithmSpecification"]["MetricDefinitions"],
        "base_job_name": job.name,
        "checkpoint_s3_uri": job.checkpoint_uri,
        "output_path": job.output_uri,
        "code_location": job.output_uri,
        "subnets": [*job.subnets] or None,
        "security_group_ids": [*job.security_groups] or None,
        "use_spot_instances": job.spot or None,
        "max_retry_attempts": job.retries,
        "keep_alive_period_in_seconds": job.keep_alive,
        **{name: getattr(job, name) for name in _SAME},
        "tags": made.get("Tags"),
        "enable_network_isolation": job.network_isolation or None,
        "encrypt_inter_container_traffic": job.encrypt_traffic or None,
        "disable_profiler": True,
        "sagemaker_session": session,
    }
    channels = {
        name: _call("TrainingInput", s3_data=one.uri, distribution=one.distribution, input_mode=one.input_mode)
        for name, one in job.inputs.items()
    }
    return [
        "import sagemaker",
        "from sagemaker.inputs import TrainingInput",
        "from sagemaker.pytorch import PyTorch",
        "",
        f"estimator = {_call('PyTorch', **arguments)}",
        _call("estimator.fit", inputs=channels or None, wait=False),
        "print(estimator.latest_training_job.name)",
    ]


def _v3(job: TrainingJob, made: dict[str, Any], boto: _Code | None) -> list[str]:
    mode = MODES[str(job.launcher)]
    if mode.v3 is None and job.launcher != "none":
        raise ValueError(f"SDK v3 starts no {job.launcher}. HINT: --as-notebook v2, or let `submit` send the job.")
    options: dict[str, Any] = {"process_count_per_node": job.processes_per_host}
    if mode.v3 == "MPI":
        # The driver's own `-np` counts one host only, so that mpirun leaves the others idle; a later one wins.
        if job.processes_per_host is None:
            raise ValueError("SDK v3's mpirun needs the number of all processes. HINT: --processes-per-host.")
        options["mpi_additional_options"] = ["-np", str(job.processes_per_host * job.instance_count)]
    folder = str(job.source_dir or job.path.parent)
    source = _call("SourceCode", source_dir=folder, entry_script=job.entry, requirements=REQUIREMENTS)
    bucket = job.output_uri and aws.place(job.output_uri)[0]
    arguments = {
        "training_image": made["AlgorithmSpecification"]["TrainingImage"],
        "source_code": source,
        "distributed": _call(mode.v3, **options) if mode.v3 else None,
        "compute": _shape("Compute", made["ResourceConfig"] | {"EnableManagedSpotTraining": job.spot or None}),
        "networking": _given(
            "Networking",
            subnets=[*job.subnets] or None,
            security_group_ids=[*job.security_groups] or None,
            enable_network_isolation=job.network_isolation or None,
            enable_inter_container_traffic_encryption=job.encrypt_traffic or None,
        ),
        "stopping_condition": _shape("StoppingCondition", made["StoppingCondition"]),
        "output_data_config": _shape("OutputDataConfig", made["OutputDataConfig"]),
        "checkpoint_config": _shape("CheckpointConfig", made.get("CheckpointConfig", {})),
        "hyperparameters": made["HyperParameters"] or None,
        "environment": made["Environment"],
        "base_job_name": job.name,
        "role": job.role,
        "tags": [{"key": key, "value": value} for key, value in job.tags.items()] or None,
        "sagemaker_session": _given("Session", default_bucket=bucket, boto_session=boto),
    }
    definitions = [_shape("MetricDefinition", one) for one in made["AlgorithmSpecification"]["MetricDefinitions"]]
    channels = [_shape("Channel", one) for one in made.get("InputDataConfig", ()) if one["ChannelName"] in job.inputs]
    retry = _shape("RetryStrategy", made.get("RetryStrategy", {}))
    return [
        "from sagemaker.core.helper.session_helper import Session",
        "from sagemaker.core.shapes import Channel, CheckpointConfig, DataSource, OutputDataConfig, S3DataSource",
        "from sagemaker.train import ModelTrainer",
        "from sagemaker.train.configs import (",
        "    Compute, MetricDefinition, Networking, RetryStrategy, SourceCode, StoppingCondition",
        ")",
        "from sagemaker.train.distributed import MPI, Torchrun",
        "",
        f"trainer = {_call('ModelTrainer', **arguments)}",
        _call("trainer.with_metric_definitions", metric_definitions=definitions),
        *([f"trainer.with_retry_strategy({retry})"] if retry else []),
        _call("trainer.train", input_data_config=channels, wait=False, logs=False),
        "print(trainer._latest_training_job.training_job_name)",
    ]


def _shape(kind: str, content: dict[str, Any]) -> _Code | None:
    """A part of the request as SDK v3's class of it, whose names are the API's in snake case."""
    given = {name: _shape(name, one) if isinstance(one, dict) else one for name, one in content.items()}
    names = {name: re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in given}
    return _given(kind, **{names[name]: one for name, one in given.items() if one != UNKNOWN})


def _given(name: str, /, **arguments: Any) -> _Code | None:
    """A call, if it has arguments that are given."""
    return None if all(value is None for value in arguments.values()) else _call(name, **arguments)


def _call(name: str, /, **arguments: Any) -> _Code:
    """A call as code, one line for each argument that is given."""
    given = [f"{key}={_literal(value)}" for key, value in arguments.items() if value is not None]
    return _Code(_lines(f"{name}(", given, ")") if given else f"{name}()")


def _literal(value: Any) -> str:
    """A value as code; the elements of what is long have a line each."""
    text = repr(value)
    if not isinstance(value, (dict, list)) or ("\n" not in text and len(text) <= _WIDTH):
        return text
    if isinstance(value, dict):
        return _lines("{", [f"{key!r}: {_literal(one)}" for key, one in value.items()], "}")
    return _lines("[", [_literal(one) for one in value], "]")


def _lines(begin: str, parts: list[str], end: str) -> str:
    return "\n".join([begin, *(f"    {part},".replace("\n", "\n    ") for part in parts), end])
