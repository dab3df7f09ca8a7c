from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lightning_sagemaker.instances import instance
from lightning_sagemaker.submit import check as check_all
from lightning_sagemaker.submit import describe
from lightning_sagemaker.submit.local_checks import KNOWN, check, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_sagemaker.findings import Finding

    from .aws import Aws

GOOD: dict[str, Any] = {"instance_type": "ml.p4d.24xlarge", "instance_count": 2}


def findings(script: Path, **changes: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in check(describe(script, **GOOD | changes))}


def test_a_good_job_passes_every_check(script: Path) -> None:
    found = findings(script, strategy="ddp")
    assert {finding.level for finding in found.values()} == {"ok"}
    assert "world size 16" in found["world"].what


@pytest.mark.parametrize(
    ("changes", "name", "level", "text"),
    [
        ({"instance_type": "ml.new.huge"}, "instance type", "warn", "not in the table"),
        ({"instance_type": "ml.g5.xlarge"}, "instance type", "warn", "has no EFA"),
        ({"processes_per_host": 16}, "world", "fail", "16 processes on each ml.p4d.24xlarge, which has 8"),
        ({"launcher": "none"}, "launcher", "warn", "Lightning starts the processes"),
        ({"strategy": "smddp"}, "launcher", "warn", "SDK v3 has no launcher for SMDDP"),
        ({"strategy": "dpp"}, "strategy", "fail", "no strategy 'dpp'"),
        ({"strategy": "mine"}, "strategy", "unknown", "no strategy 'mine'"),
        ({"strategy": "smddp", "sdk": "v2", "torch_version": "2.8.0"}, "SMDDP", "fail", "image 2.8.0 has no SMDDP"),
        ({"strategy": "smddp", "sdk": "v2", "instance_type": "ml.p5.48xlarge"}, "SMDDP", "fail", "is not supported"),
        ({"strategy": "smddp", "sdk": "v2", "instance_count": 1}, "SMDDP", "fail", "brings nothing on one instance"),
        ({"strategy": "smddp", "launcher": "torchrun"}, "SMDDP", "fail", "run under smddprun, not torchrun"),
        ({"strategy": "smddp_fsdp", "launcher": "mpirun"}, "SMDDP", "fail", "run under torchrun, not mpirun"),
        (
            {"channels": {"train": "s3://bucket/data", "rest": "s3://bucket/rest"}, "sharded": ["train"]},
            "channels",
            "warn",
            "Input channel(s) train are ShardedByS3Key: each of the 2 hosts",
        ),
        ({"spot": True}, "spot", "fail", "an interruption loses the run"),
        ({"subnets": ["subnet-1"]}, "VPC", "fail", "without security groups"),
    ],
)
def test_what_is_wrong_is_found(script: Path, changes: dict[str, Any], name: str, level: str, text: str) -> None:
    finding = findings(script, **changes)[name]
    assert finding.level == level
    assert text in finding.what
    assert "HINT" in finding.what + finding.fix


def test_on_one_host_a_sharded_channel_has_all_files(script: Path) -> None:
    changes = {"instance_count": 1, "channels": {"train": "s3://bucket/data"}, "sharded": ["train"]}
    assert findings(script, **changes)["channels"].level == "ok"


def test_a_script_that_does_not_parse_fails_with_its_line(script: Path) -> None:
    script.write_text("import os\nif\n")
    finding = findings(script)["script"]
    assert finding.level == "fail"
    assert f"{script}, line 2" in finding.what


def test_a_large_source_folder_warns_with_its_largest_file(script: Path) -> None:
    with (script.parent / "data.bin").open("wb") as file:
        file.truncate(600_000_000)
    finding = findings(script)["source folder"]
    assert finding.level == "warn"
    assert "the largest is data.bin with 600 MB" in finding.what


SCRIPT = """
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
trainer = Trainer(max_epochs=1000)
trainer.fit(BoringModel())
assert trainer.world_size == 2
"""


def test_the_simulation_runs_one_batch_on_two_hosts_and_shows_what_fails(script: Path) -> None:
    script.write_text(SCRIPT)
    assert simulate(describe(script, **GOOD)).level == "ok"
    script.write_text("raise KeyError('the column is missing')\n")
    finding = simulate(describe(script, **GOOD))
    assert finding.level == "fail"
    assert "KeyError: 'the column is missing'" in finding.what


def test_the_simulation_is_the_last_check_and_left_out_where_another_one_fails(script: Path) -> None:
    script.write_text("raise SystemExit('it ran')\n")
    last = check_all(describe(script, **GOOD), simulate_first=True)[-1]
    assert (last.name, last.level) == ("simulation", "fail")
    assert "it ran" in last.what
    failing = check_all(describe(script, **GOOD, spot=True), simulate_first=True)
    assert "simulation" not in [finding.name for finding in failing]


def test_without_boto3_what_aws_would_say_is_unknown(script: Path) -> None:
    (finding,) = [one for one in check_all(describe(script, **GOOD)) if one.name == "AWS"]
    assert finding.level == "unknown"
    assert "submit" in finding.fix


def test_an_image_of_one_s_own_is_known_to_nobody_here(script: Path) -> None:
    (finding,) = [one for one in check_all(describe(script, **GOOD, image="mine:latest")) if one.name == "image"]
    assert finding.level == "warn"
    assert "unknown to these checks" in finding.what


def test_the_known_strategies_are_those_of_lightning_s_registries() -> None:
    pytorch = importlib.import_module("lightning.pytorch.strategies").StrategyRegistry
    fabric = importlib.import_module("lightning.fabric.strategies").STRATEGY_REGISTRY
    assert {*pytorch, *fabric} - {*KNOWN} == set()


def test_a_script_that_hangs_fails_the_simulation_and_leaves_no_process(script: Path) -> None:
    seen = script.parent / "seen"
    script.write_text(f"import os, time\nopen({str(seen)!r}, 'a').write(f'{{os.getpid()}} ')\ntime.sleep(600)\n")
    finding = simulate(describe(script, **GOOD), timeout=15)
    assert finding.level == "fail"
    assert "did not end one batch within 15 s" in finding.what
    pids = [int(pid) for pid in seen.read_text().split()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.xdist_group("aws")
def test_the_table_of_instance_types_says_what_ec2_says(aws: Aws) -> None:
    code = """
types = {}
for page in boto3.client("ec2").get_paginator("describe_instance_types").paginate():
    for one in page["InstanceTypes"]:
        gpus = sum(gpu["Count"] for gpu in one.get("GpuInfo", {}).get("Gpus", ()))
        types["ml." + one["InstanceType"]] = [gpus, one["NetworkInfo"]["EfaSupported"]]
result = types
"""
    told = aws.python(code)
    compared = {name: known for name in told if (known := instance(name))}
    assert len(compared) > 30
    for name, known in compared.items():
        assert [known.gpus, known.efa] == told[name], name
