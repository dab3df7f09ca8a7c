"""The requests that the real SDKs make of a description, field by field, as a real moto server receives them."""

from __future__ import annotations

import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from .aws import BUCKET, ROLE, SDKS, Aws

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")

COMMON = ("--role", ROLE, "--region", "us-east-1", "--output-uri", f"s3://{BUCKET}/out")
BOTH = pytest.mark.parametrize("sdk", SDKS)


def request(aws: Aws, sdk: str, script: Path, *arguments: object, rest: tuple[str, ...] = ()) -> dict[str, Any]:
    return requests(aws, sdk, script, [arguments], rest=rest)[0]


def requests(
    aws: Aws, sdk: str, script: Path, commands: Sequence[tuple[object, ...]], *, rest: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    before = len(aws.requests())
    runs = aws.submit(sdk, *((script, *COMMON, *arguments, "--", *rest) for arguments in commands))
    made = aws.requests()[before:]
    assert [run.code for run in runs] == [0] * len(commands), [run.out + run.err for run in runs]
    for run, one in zip(runs, made, strict=True):
        name, link = run.out.splitlines()[-2:]
        assert one["TrainingJobName"] == name
        assert link == f"https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/{name}"
    return made


TWO_HOSTS = ("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2")


def test_v2_starts_each_launcher_by_the_toolkits_hyperparameters(aws: Aws, script: Path) -> None:
    cases: list[tuple[tuple[str, ...], dict[str, object]]] = [
        (("--strategy", "ddp"), {"sagemaker_torch_distributed_enabled": True}),
        (("--strategy", "smddp"), {"sagemaker_distributed_dataparallel_enabled": True}),
        (("--strategy", "smddp_fsdp"), {"sagemaker_torch_distributed_enabled": True}),
        (
            ("--launcher", "mpirun", "--processes-per-host", "4"),
            {"sagemaker_mpi_enabled": True, "sagemaker_mpi_num_of_processes_per_host": 4},
        ),
        (("--launcher", "none"), {}),
    ]
    made = requests(aws, "v2", script, [(*TWO_HOSTS, *arguments) for arguments, _ in cases])
    for one, (arguments, flags) in zip(made, cases, strict=True):
        given = {name: json.loads(value) for name, value in one["HyperParameters"].items()}
        launcher = {name: value for name, value in given.items() if name.endswith(("_enabled", "_per_host")) and value}
        assert launcher == flags, arguments
        assert given["sagemaker_program"] == "train.py"


def test_v3_sends_each_driver_and_the_number_of_all_of_mpiruns_processes(
    aws: Aws, script: Path, tmp_path: Path
) -> None:
    cases: list[tuple[tuple[str, ...], str, dict[str, object]]] = [
        (("--strategy", "ddp"), "torchrun_driver.py", {}),
        (("--strategy", "smddp_fsdp"), "torchrun_driver.py", {}),
        (("--launcher", "mpirun"), "mpi_driver.py", {"mpi_additional_options": ["-np", "16"]}),
        (("--launcher", "none"), "basic_script_driver.py", {}),
    ]
    made = requests(aws, "v3", script, [(*TWO_HOSTS, *arguments) for arguments, _, _ in cases])
    for number, (one, (_, driver, content)) in enumerate(zip(made, cases, strict=True)):
        drivers = tmp_path / str(number)
        aws.download(uris(one)["sm_drivers"], drivers)
        assert driver in (drivers / "sm_train.sh").read_text()
        distributed = json.loads((drivers / "distributed.json").read_text() or "{}")
        assert content.items() <= distributed.items()


def uris(made: dict[str, Any]) -> dict[str, str]:
    return {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in made.get("InputDataConfig", ())
    }


def test_v3_lets_the_images_toolkit_start_smddprun_since_it_has_no_driver_for_it(
    aws: Aws, script: Path, tmp_path: Path
) -> None:
    made = request(aws, "v3", script, *TWO_HOSTS, "--strategy", "smddp", rest=("--epochs", "30"))
    assert "ContainerEntrypoint" not in made["AlgorithmSpecification"]
    given = {name: json.loads(value) for name, value in made["HyperParameters"].items()}
    assert given["sagemaker_distributed_dataparallel_enabled"] is True
    assert (given["sagemaker_program"], given["epochs"]) == ("train.py", "30")
    (archive,) = aws.download(given["sagemaker_submit_directory"], tmp_path)
    with tarfile.open(archive) as tar:
        assert {"train.py", "requirements.txt"} <= set(tar.getnames())


@BOTH
def test_every_field_of_the_description_reaches_the_request(aws: Aws, script: Path, sdk: str) -> None:
    aws.python(f"boto3.client('s3').put_object(Bucket={BUCKET!r}, Key='data/one', Body=b'1')")
    made = request(
        aws,
        sdk,
        script,
        *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "4", "--strategy", "ddp", "--name", "digits"),
        *("--env", "COLOUR=blue", "--channel", f"train=s3://{BUCKET}/data", "--volume-gb", "250"),
        *("--channel", f"part=s3://{BUCKET}/data/:sharded"),
        *("--spot", "--max-run", "3600", "--max-wait", "7200", "--retries", "5"),
        *("--checkpoint-uri", f"s3://{BUCKET}/checkpoints/run-1", "--metric", "val acc"),
        rest=("--epochs", "30", "--lr=1e-3", "--name", "a b"),
    )
    assert made["TrainingJobName"].startswith("digits-")
    assert made["RoleArn"] == ROLE
    resources = made["ResourceConfig"]
    assert (resources["InstanceType"], resources["InstanceCount"]) == ("ml.p4d.24xlarge", 4)
    assert resources["VolumeSizeInGB"] == 250
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert made["EnableManagedSpotTraining"] is True
    assert made["RetryStrategy"] == {"MaximumRetryAttempts": 5}
    assert made["CheckpointConfig"]["S3Uri"] == f"s3://{BUCKET}/checkpoints/run-1"
    assert made["OutputDataConfig"]["S3OutputPath"] == f"s3://{BUCKET}/out"
    assert uris(made)["train"] == f"s3://{BUCKET}/data"
    assert uris(made)["part"] == f"s3://{BUCKET}/data/"
    spread = {
        one["ChannelName"]: one["DataSource"]["S3DataSource"].get("S3DataDistributionType")
        for one in made["InputDataConfig"]
    }
    assert (spread["train"], spread["part"]) == ("FullyReplicated", "ShardedByS3Key")
    expected = {
        "COLOUR": "blue",
        "PL_TRAINER_STRATEGY": "ddp",
        "LIGHTNING_SAGEMAKER_METRICS": "1",
        "LIGHTNING_SAGEMAKER_RESUME": "1",
        "FI_PROVIDER": "efa",
        "FI_EFA_USE_DEVICE_RDMA": "1",
        "RDMAV_FORK_SAFE": "1",
    }
    assert expected.items() <= made["Environment"].items()
    algorithm = made["AlgorithmSpecification"]
    assert ":2.8.0-gpu-py312" in algorithm["TrainingImage"]
    regexes = {metric["Name"]: metric["Regex"] for metric in algorithm["MetricDefinitions"]}
    assert set(regexes) == {"epoch", "step", "val_loss", "val acc"}
    given = {name: json.loads(made["HyperParameters"][name]) for name in ("epochs", "lr")}
    assert given in ({"epochs": "30", "lr": "1e-3"}, {"epochs": 30, "lr": "1e-3"})


@BOTH
def test_smddp_chooses_the_last_image_that_has_it_and_a_single_gpu_no_launcher(
    aws: Aws, script: Path, sdk: str
) -> None:
    with_smddp, single = requests(
        aws, sdk, script, [(*TWO_HOSTS, "--strategy", "smddp"), ("--instance-type", "ml.g5.xlarge")]
    )
    assert ":2.5.1-gpu-py311" in with_smddp["AlgorithmSpecification"]["TrainingImage"]
    assert not [value for name, value in single["HyperParameters"].items() if name.endswith("_enabled")]


@BOTH
def test_subnets_and_security_groups_reach_the_request_after_they_were_checked(
    aws: Aws, script: Path, sdk: str
) -> None:
    subnet, group = aws.python(VPC + OPEN)
    made = request(
        aws,
        sdk,
        script,
        *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--subnet", subnet, "--security-group", group),
    )
    assert made["VpcConfig"] == {"Subnets": [subnet], "SecurityGroupIds": [group]}


@BOTH
def test_the_source_arrives_with_requirements_and_the_users_file_stays(
    aws: Aws, script: Path, tmp_path: Path, sdk: str
) -> None:
    own = script.parent / "requirements.txt"
    own.write_text("scikit-learn\n")
    (script.parent / ".git").mkdir()
    (script.parent / ".git" / "secret").write_text("history")
    wheel = tmp_path / "extra-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    made = request(aws, sdk, script, "--instance-type", "ml.g5.xlarge", "--requirement", wheel)
    folder = tmp_path / "arrived"
    if sdk == "v2":
        (archive,) = aws.download(json.loads(made["HyperParameters"]["sagemaker_submit_directory"]), tmp_path)
        shutil.unpack_archive(archive, folder)
    else:
        aws.download(uris(made)["code"], folder)
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert lines[:2] == ["scikit-learn", "./extra-1.0-py3-none-any.whl"]
    assert lines[2].startswith("lightning")
    assert lines[3].startswith("lightning-sagemaker")
    assert sorted(path.name for path in folder.iterdir()) == sorted([wheel.name, "requirements.txt", "train.py"])
    assert own.read_text() == "scikit-learn\n"


@BOTH
def test_waiting_follows_the_job_to_its_end(aws: Aws, script: Path, sdk: str) -> None:
    (run,) = aws.submit(sdk, (script, *COMMON, "--instance-type", "ml.g5.xlarge", "--wait"))
    assert run.code == 0, run.err
    name = aws.requests()[-1]["TrainingJobName"]
    assert run.out.splitlines()[-1] == f"{name}: Completed"  # moto's jobs are so at birth
    assert any("Completed: " in line and line.startswith("[") for line in run.out.splitlines())


@BOTH
def test_a_job_for_the_other_sdk_is_refused_by_name(aws: Aws, script: Path, sdk: str) -> None:
    other = "v3" if sdk == "v2" else "v2"
    (run,) = aws.submit(sdk, (script, *COMMON, "--instance-type", "ml.g5.xlarge", "--sdk", other))
    assert run.code == 1
    assert f"The job is described for SDK {other}, and SDK {sdk} is installed. HINT:" in run.out
    assert "Not sent: a check has failed" in run.err


VPC = """
ec2 = boto3.client("ec2")
vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
group = ec2.create_security_group(GroupName="training", Description="training", VpcId=vpc)["GroupId"]
itself = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
result = [subnet, group]
"""
OPEN = "ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=itself)\n"
