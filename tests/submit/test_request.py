"""The request: every field of a job is in it, and it is what the real SDKs send for the same job."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.submit import Resolved, TrainingJob, complete, request
from lightning_sagemaker.submit.request import UNKNOWN, check_limits

from .aws import BUCKET, ROLE, Aws

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.13-cu133-amzn2023-sagemaker"
RESOLVED = Resolved("digits-1", "us-east-1", IMAGE, ROLE, f"s3://{BUCKET}/out")
PLAIN: dict[str, Any] = {"instance_type": "ml.p4d.24xlarge", "instance_count": 2, "name": "digits"}
PLAN = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/p"


def made(script: Path, **changes: Any) -> dict[str, Any]:
    return request(complete(TrainingJob(script, **PLAIN | changes)), RESOLVED)


def at(content: Any, path: str) -> Any:
    for name in path.split("."):
        content = content[int(name)] if isinstance(content, list) else content[name]
    return content


# Field, value, where it is in the request, and what is there. Those that stand elsewhere have no place.
FIELDS: list[tuple[str, Any, str | None, Any]] = [
    ("script", None, "HyperParameters.sagemaker_program", '"train.py"'),
    ("arguments", ("--epochs", "30"), "HyperParameters.epochs", "30"),
    ("source_dir", None, None, "the archive"),
    ("requirements", None, None, "the archive"),
    ("strategy", "fsdp", "Environment.PL_TRAINER_STRATEGY", "fsdp"),
    ("launcher", "mpirun", "HyperParameters.sagemaker_mpi_enabled", "true"),
    ("processes_per_host", 4, "HyperParameters.sagemaker_mpi_num_of_processes_per_host", "4"),
    ("env", {"COLOUR": "blue"}, "Environment.COLOUR", "blue"),
    ("export", "best", "Environment.LIGHTNING_SAGEMAKER_EXPORT", "best"),
    ("instance_type", "ml.g5.xlarge", "ResourceConfig.InstanceType", "ml.g5.xlarge"),
    ("instance_count", 3, "ResourceConfig.InstanceCount", 3),
    (
        "instance_groups",
        {"gpu": "ml.p4d.24xlarge:2", "cpu": "ml.c5.xlarge"},
        "ResourceConfig.InstanceGroups.1",
        {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
    ),
    ("volume_gb", 250, "ResourceConfig.VolumeSizeInGB", 250),
    ("spot", True, "EnableManagedSpotTraining", True),
    ("max_run", 3600, "StoppingCondition.MaxRuntimeInSeconds", 3600),
    ("max_wait", 90_000, "StoppingCondition.MaxWaitTimeInSeconds", 90_000),
    ("retries", 5, "RetryStrategy.MaximumRetryAttempts", 5),
    ("keep_alive", 600, "ResourceConfig.KeepAlivePeriodInSeconds", 600),
    ("training_plan", PLAN, "ResourceConfig.TrainingPlanArn", PLAN),
    ("torch", None, None, "the image"),
    ("image", None, None, "the image"),
    (
        "channels",
        {"train": "s3://bucket/data:sharded:FastFile"},
        "InputDataConfig.0",
        {
            "ChannelName": "train",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": "s3://bucket/data",
                    "S3DataDistributionType": "ShardedByS3Key",
                }
            },
            "InputMode": "FastFile",
        },
    ),
    ("checkpoint_uri", "s3://bucket/c", "CheckpointConfig", {"S3Uri": "s3://bucket/c"}),
    ("output_uri", None, None, "the resolved output"),
    ("name", None, None, "the resolved name"),
    ("tags", {"team": "vision"}, "Tags", [{"Key": "team", "Value": "vision"}]),
    ("metrics", ("val acc",), "AlgorithmSpecification.MetricDefinitions.2.Name", "val acc"),
    ("role", None, None, "the resolved role"),
    ("subnets", ("subnet-1",), "VpcConfig.Subnets", ["subnet-1"]),
    ("security_groups", ("sg-1",), "VpcConfig.SecurityGroupIds", ["sg-1"]),
    ("network_isolation", True, "EnableNetworkIsolation", True),
    ("encrypt_traffic", True, "EnableInterContainerTrafficEncryption", True),
    ("output_kms_key", "key-1", "OutputDataConfig.KmsKeyId", "key-1"),
    ("volume_kms_key", "key-2", "ResourceConfig.VolumeKmsKeyId", "key-2"),
    ("set", {"DebugHookConfig.S3OutputPath": "s3://bucket/d"}, "DebugHookConfig", {"S3OutputPath": "s3://bucket/d"}),
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field[0])
def test_what_was_asked_is_in_the_request_which_the_api_s_model_accepts(
    script: Path, field: tuple[str, Any, str | None, Any]
) -> None:
    name, value, path, content = field
    changes = {} if value is None else {name: value}
    if name == "instance_groups":
        changes |= {"instance_type": None, "instance_count": 1}
    if name in ("subnets", "security_groups"):
        changes |= {"subnets": ("subnet-1",), "security_groups": ("sg-1",)}
    if name == "max_wait":
        changes |= {"spot": True}
    sent = made(script, **changes)
    if path is not None:
        assert at(sent, path) == content
    assert [finding.level for finding in check_limits(sent)] == ["ok"]


def test_no_field_of_a_job_is_without_a_test_of_where_it_goes() -> None:
    assert [name for name, *_ in FIELDS] == [field.name for field in dataclasses.fields(TrainingJob)]


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, {"sagemaker_torch_distributed_enabled": True, "sagemaker_instance_type": "ml.p4d.24xlarge"}),
        (
            {"strategy": "smddp"},
            {
                "sagemaker_distributed_dataparallel_enabled": True,
                "sagemaker_distributed_dataparallel_custom_mpi_options": "",
                "sagemaker_instance_type": "ml.p4d.24xlarge",
            },
        ),
        ({"launcher": "mpirun"}, {"sagemaker_mpi_enabled": True, "sagemaker_mpi_custom_mpi_options": ""}),
        ({"launcher": "none"}, {}),
        (
            {
                "instance_type": None,
                "instance_count": 1,
                "instance_groups": {"gpu": "ml.p4d.24xlarge:2", "cpu": "ml.c5.xlarge"},
            },
            {"sagemaker_torch_distributed_enabled": True, "sagemaker_distribution_instance_groups": ["gpu"]},
        ),
    ],
)
def test_the_toolkit_is_told_the_launcher(script: Path, changes: dict[str, Any], flags: dict[str, Any]) -> None:
    given = {name: json.loads(value) for name, value in made(script, **changes)["HyperParameters"].items()}
    own = ("program", "submit_directory", "container_log_level", "job_name", "region")
    for name in own:
        given.pop(f"sagemaker_{name}")
    assert given == flags


def test_values_that_are_set_win_and_are_merged(script: Path) -> None:
    sent = made(script, set={"ResourceConfig": {"VolumeSizeInGB": 1}, "StoppingCondition.MaxRuntimeInSeconds": 5})
    assert sent["ResourceConfig"] == {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1}
    assert sent["StoppingCondition"] == {"MaxRuntimeInSeconds": 5}


@pytest.mark.parametrize(
    ("changes", "name", "text"),
    [
        ({"retries": 99}, "RetryStrategy.MaximumRetryAttempts", "99, but SageMaker takes 1 to 30"),
        ({"instance_type": "ml.p4d.24xlarg"}, "ResourceConfig.InstanceType", "not a value that boto3 knows"),
        ({"tags": {f"k{n}": "v" for n in range(51)}}, "Tags", "51 elements, but SageMaker takes 0 to 50"),
        ({"tags": {"": "v"}}, "Tags[0].Key", "0 characters"),
        ({"env": {"A": "x" * 513}}, "Environment.A", "513 characters, but SageMaker takes"),
        (
            {"subnets": ("bad id",), "security_groups": ("sg-1",)},
            "VpcConfig.Subnets[0]",
            "does not fit the API's pattern",
        ),
        ({"set": {"Nonsense": 1}}, "request", "Unknown parameter in input"),
        ({"set": {"ResourceConfig.VolumeSizeInGB": "many"}}, "request", "Invalid type for parameter ResourceConfig"),
        ({"spot": "false"}, "request", "Invalid type for parameter EnableManagedSpotTraining"),
    ],
)
def test_what_the_api_would_refuse_is_found_without_asking_it(
    script: Path, changes: dict[str, Any], name: str, text: str
) -> None:
    found = [*check_limits(made(script, **changes))]
    assert [(finding.level, finding.name) for finding in found] == [("fail", name)]
    assert text in found[0].what
    assert "HINT" in found[0].fix


def test_with_an_isolated_network_the_source_has_its_channel_whatever_channels_are_set(script: Path) -> None:
    data = {"ChannelName": "train", "DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}}
    sent = made(script, network_isolation=True, set={"InputDataConfig": [data]})
    assert [channel["ChannelName"] for channel in sent["InputDataConfig"]] == ["train", "code"]
    assert [*complete(TrainingJob(script, **PLAIN, network_isolation=True, set={"Tags": []})).channels] == []


def test_what_the_api_allows_beyond_the_options_can_be_set(script: Path) -> None:
    sent = made(script, set={"ResourceConfig.VolumeSizeInGB": 0})  # of instances with disks of their own
    assert sent["ResourceConfig"]["VolumeSizeInGB"] == 0
    assert [finding.level for finding in check_limits(sent)] == ["ok"]


def test_what_is_not_known_yet_is_not_measured_by_the_model(script: Path) -> None:
    sent = request(complete(TrainingJob(script, **PLAIN)), Resolved("digits-1", "us-east-1"))
    assert sent["RoleArn"] == UNKNOWN
    assert [finding.level for finding in check_limits(sent)] == ["ok"]


# What the SDKs send otherwise for the same job, by the beginning of the path; each with its reason.
OTHERWISE = {
    "v2": {"DebugHookConfig": "the debugger's place, without a rule that uses it"},
    "v3": {
        "HyperParameters": "its drivers read no `sagemaker_*`, and texts as they are",
        "AlgorithmSpecification.ContainerEntrypoint": "its own start script instead of the image's toolkit",
        "AlgorithmSpecification.ContainerArguments": "the same",
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries": "a default of its own",
        "InputDataConfig.code": "a folder, not an archive, in a place of its own",
        "InputDataConfig.sm_drivers": "its drivers are a channel",
        "OutputDataConfig.CompressionType": "GZIP, the API's default",
        "ProfilerConfig": "not set",
        "Tags": "its own tags",
    },
}
JOB = (
    *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--name", "digits", "--role", ROLE),
    *("--output-uri", f"s3://{BUCKET}/out", "--image", IMAGE, "--env", "COLOUR=blue", "--volume-gb", "250", "--spot"),
    *("--channel", f"train=s3://{BUCKET}/data", "--channel", f"part=s3://{BUCKET}/data/:sharded:FastFile"),
    *("--max-run", "3600", "--retries", "5", "--checkpoint-uri", f"s3://{BUCKET}/checkpoints/1", "--metric", "val acc"),
    *("--subnet", "subnet-1", "--security-group", "sg-1", "--encrypt-traffic", "--tag", "a=b"),
    *("--output-kms-key", "key-1", "--volume-kms-key", "key-2"),
)
CASES = {
    "v2": [
        ("--launcher", "torchrun"),
        ("--launcher", "smddprun", "--network-isolation"),
        ("--launcher", "mpirun", "--processes-per-host", "4"),
        ("--launcher", "none"),
    ],
    "v3": [
        ("--launcher", "torchrun", "--processes-per-host", "4", "--network-isolation"),
        ("--launcher", "mpirun", "--processes-per-host", "4"),
        ("--launcher", "none"),
    ],
}


def comparable(sent: dict[str, Any]) -> dict[str, Any]:
    """A request whose channels have names instead of places, and without the job's own name."""
    made: dict[str, Any] = json.loads(json.dumps(sent).replace(sent["TrainingJobName"], "NAME"))
    return made | {"InputDataConfig": {one["ChannelName"]: one for one in made["InputDataConfig"]}}


def differences(ours: Any, theirs: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in {**ours, **theirs}:
            found |= differences(ours.get(name), theirs.get(name), f"{path}.{name}" if path else name)
        return found
    return {} if ours == theirs else {path: (ours, theirs)}


@pytest.mark.xdist_group("aws")
@pytest.mark.parametrize("sdk", CASES)
def test_the_request_is_what_the_sdk_sends_for_the_same_job_as_a_notebook(aws: Aws, script: Path, sdk: str) -> None:
    (script.parent / "requirements.txt").touch()
    rest = ("--", "--epochs", "30", "--lr", "1e-3")
    shown = aws.run(*((script, *JOB, *options, "--as-notebook", sdk, *rest) for options in CASES[sdk]))
    dry = aws.run(*((script, *JOB, *options, "--dry-run", "--json", *rest) for options in CASES[sdk]))
    assert [run.code for run in shown] == [0] * len(shown), shown
    before = len(aws.requests())
    for ran in aws.programs(sdk, (run.out for run in shown)):
        assert ran.code == 0, ran.out + ran.err
    sent = aws.requests()[before:]
    for options, theirs, run in zip(CASES[sdk], sent, dry, strict=True):
        ours = json.loads(run.out)
        found = differences(comparable(ours), comparable(theirs))
        allowed = tuple(f"{name}." for name in OTHERWISE[sdk])
        unexpected = {path: values for path, values in found.items() if not f"{path}.".startswith(allowed)}
        assert unexpected == {}, options
        assert {name: ours["HyperParameters"][name] for name in ("epochs", "lr")} == {"epochs": "30", "lr": '"1e-3"'}


@pytest.mark.xdist_group("aws")
@pytest.mark.parametrize("sdk", CASES)
def test_the_code_for_a_notebook_sends_the_job_by_the_command_s_profile_to_its_region(
    aws: Aws, script: Path, tmp_path: Path, sdk: str
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile other]\naws_access_key_id = of-profile\naws_secret_access_key = of-profile\n")
    plain = ("--instance-type", "ml.g5.xlarge", "--image", "mine:1", "--role", ROLE)
    where = ("--region", "eu-west-1", "--profile", "other")
    (script.parent / "requirements.txt").touch()
    (code,) = aws.run(
        (script, *plain, *where, "--output-uri", f"s3://{BUCKET}/out", "--as-notebook", sdk),
        AWS_CONFIG_FILE=str(config),
    )
    assert code.code == 0, code.err
    (ran,) = aws.programs(sdk, [code.out], environ={"AWS_CONFIG_FILE": str(config)})
    assert ran.code == 0, ran.out + ran.err
    assert re.search(r"Credential=of-profile/\d+/eu-west-1/sagemaker/", aws.signed())
