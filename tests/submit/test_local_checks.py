from __future__ import annotations

import contextlib
import importlib
import re
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lightning_sagemaker import source_folder
from lightning_sagemaker.instances import Instance, instance
from lightning_sagemaker.simulate import Result
from lightning_sagemaker.submit import TrainingJob, command, complete, source
from lightning_sagemaker.submit import check as check_all
from lightning_sagemaker.submit.command import simulate
from lightning_sagemaker.submit.local_checks import KNOWN, check

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_sagemaker.findings import Finding

    from .aws import Aws

GOOD: dict[str, Any] = {"instance_type": "ml.p4d.24xlarge", "instance_count": 2}


def job(script: Path, **changes: Any) -> TrainingJob:
    return complete(TrainingJob(script, **GOOD | changes))


def findings(script: Path, **changes: Any) -> dict[str, Finding]:
    made = job(script, **changes)
    return {
        finding.name: finding for finding in [*source.check_source(made, source_folder.read(made.folder)), *check(made)]
    }


def test_a_good_job_passes_every_check(script: Path) -> None:
    found = findings(script, strategy="ddp")
    assert {finding.level for finding in found.values()} == {"ok"}
    assert "world size 16" in found["world"].what


@pytest.mark.parametrize(
    ("changes", "name", "level", "text"),
    [
        ({"instance_type": "ml.new.huge"}, "instance type", "unknown", "not in the table"),
        ({"instance_type": "ml.g5.xlarge"}, "instance type", "warn", "has no EFA"),
        ({"processes_per_host": 16}, "world", "fail", "16 processes on each ml.p4d.24xlarge, which has 8"),
        ({"launcher": "none"}, "launcher", "warn", "Lightning starts the processes"),
        ({"strategy": "dpp"}, "strategy", "fail", "no strategy 'dpp'"),
        ({"strategy": "mine"}, "strategy", "unknown", "no strategy 'mine'"),
        ({"strategy": "smddp", "torch": "2.8.0"}, "SMDDP", "fail", "image 2.8.0 has no SMDDP"),
        ({"strategy": "smddp", "torch": "9.9.9"}, "SMDDP", "fail", "image 9.9.9 has no SMDDP"),
        ({"env": {"PL_TRAINER_STRATEGY": "smddp"}, "torch": "2.8.0"}, "SMDDP", "fail", "image 2.8.0 has no SMDDP"),
        ({"strategy": "smddp", "instance_type": "ml.p5.48xlarge"}, "SMDDP", "fail", "is not supported"),
        ({"strategy": "smddp", "instance_count": 1}, "SMDDP", "fail", "has no advantage on one instance"),
        ({"strategy": "smddp", "launcher": "torchrun"}, "SMDDP", "fail", "run under smddprun, not torchrun"),
        ({"strategy": "smddp_fsdp", "launcher": "mpirun"}, "SMDDP", "fail", "run under torchrun, not mpirun"),
        (
            {"channels": {"train": "s3://bucket/data:sharded", "rest": "s3://bucket/rest"}},
            "channels",
            "warn",
            "Input channel(s) train are ShardedByS3Key: each of the 2 hosts",
        ),
        ({"spot": True}, "spot", "fail", "an interruption loses the run"),
        ({"spot": True, "keep_alive": 60}, "warm pool", "fail", "--keep-alive 60 with spot instances"),
        (
            {"instance_type": None, "instance_count": 1, "instance_groups": {"a": "ml.g5.xlarge"}, "keep_alive": 60},
            "warm pool",
            "fail",
            "--keep-alive 60 with instance groups",
        ),
        ({"subnets": ["subnet-1"]}, "VPC", "fail", "without security groups"),
    ],
)
def test_what_is_wrong_is_found(script: Path, changes: dict[str, Any], name: str, level: str, text: str) -> None:
    finding = findings(script, **changes)[name]
    assert finding.level == level
    assert text in finding.what
    assert "HINT" in finding.what + finding.fix


def test_on_one_host_a_sharded_channel_has_all_files(script: Path) -> None:
    changes = {"instance_count": 1, "channels": {"train": "s3://bucket/data:sharded"}}
    assert findings(script, **changes)["channels"].level == "ok"


def test_a_script_that_does_not_parse_fails_with_its_line(script: Path) -> None:
    script.write_text("import os\nif\n")
    finding = findings(script)["script"]
    assert finding.level == "fail"
    assert f"{script}, line 2" in finding.what


@pytest.mark.parametrize("text", ["\ufeffimport os\n".encode(), "# coding: latin-1\nx = 'ü'\n".encode("latin-1")])
def test_a_script_in_any_encoding_that_python_reads_parses(script: Path, text: bytes) -> None:
    script.write_bytes(text + b"self.log('seen', 1)\n")
    assert findings(script)["script"].level == "ok"
    assert "seen" in job(script).metrics


def test_on_an_instance_without_gpus_there_may_be_any_number_of_processes(script: Path) -> None:
    made = job(script, instance_type="ml.c5.9xlarge", processes_per_host=4, launcher="torchrun")
    (found,) = [one for one in check(made, Instance(0, efa=False, rdma=False)) if one.name == "world"]
    assert (found.level, found.what) == ("ok", "2 host(s) x 4 process(es) = world size 8.")


def test_what_pip_cannot_fetch_over_an_isolated_network_is_named(script: Path, tmp_path: Path) -> None:
    def found(**changes: Any) -> Finding:
        return findings(script, network_isolation=True, **changes)["requirements"]

    (script.parent / "requirements.txt").write_text("# data\nnumpy>=2\ntorch\n")
    assert found().level == "fail"
    assert "pip can fetch nothing: the image must have numpy>=2, lightning==" in found().what
    assert found(image="mine:1").level == "warn"
    wheels = [tmp_path / f"{name}-1.0-py3-none-any.whl" for name in ("lightning", "lightning_sagemaker")]
    for wheel in wheels:
        wheel.touch()
    assert found(requirements=[str(wheel) for wheel in wheels]).level == "warn"
    (script.parent / "requirements.txt").unlink()
    assert found(requirements=[str(wheel) for wheel in wheels]).level == "ok"


def test_a_torch_that_does_not_fit_hides_nothing_that_an_isolated_network_lacks(script: Path) -> None:
    made = job(script, network_isolation=True, requirements=["torch==2.0", "einops"])
    first, second = [one for one in source.check_source(made, source_folder.read(made.folder)) if one.level == "fail"]
    assert "'torch==2.0' replaces torch" in first.what
    assert "the image must have einops" in second.what


def test_what_is_large_or_secret_or_leads_elsewhere_is_named(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_folder, "LARGE", 1000)
    folder = script.parent
    (folder / "data.bin").write_bytes(b"x" * 2000)
    (folder / ".netrc").touch()
    (folder / "latest").symlink_to("gone")
    found = findings(script)
    assert (found["large files"].level, found["links"].level, found["credentials"].level) == ("warn", "warn", "fail")
    assert "data.bin (0 MB)" in found["large files"].what
    assert "left out: latest." in found["links"].what
    assert "left out: .netrc." in found["credentials"].what
    assert findings(script, source_dir=folder)["credentials"].level == "warn"
    assert found["source folder"].what == "1 files, 0.0 MB."


def test_a_large_source_folder_warns_with_its_largest_file(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MUCH", 1000)
    (script.parent / "weights.bin").write_bytes(b"x" * 2000)
    finding = findings(script)["source folder"]
    assert finding.level == "warn"
    assert "the largest is weights.bin" in finding.what


def test_a_script_that_the_ignore_files_leave_out_fails(script: Path) -> None:
    (script.parent / ".gitignore").write_text("*.py\n")
    finding = findings(script)["script"]
    assert (finding.level, "train.py is left out" in finding.what) == ("fail", True)


@pytest.mark.parametrize(
    ("lines", "torch", "level"),
    [
        ("torch==2.1", None, "fail"),
        ("numpy\ntorch>=2.0,<2.9  # old", None, "fail"),
        ("torch>=2.0", None, "ok"),
        ("torch", None, "ok"),
        ("torchmetrics==1.0", None, "ok"),
        ("torch==2.8.0", "2.8", "ok"),
        ("torch @ file:///x.whl", None, "ok"),
        ("torch ==", None, "ok"),  # pip says it
    ],
)
def test_requirements_that_replace_the_image_s_torch_fail(
    script: Path, lines: str, torch: str | None, level: str
) -> None:
    (script.parent / "requirements.txt").write_text(lines)
    assert findings(script, torch=torch)["requirements"].level == level


SCRIPT = """
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
trainer = Trainer(max_epochs=1000)
trainer.fit(BoringModel())
assert trainer.world_size == 2
"""


def test_the_simulation_runs_one_batch_on_two_hosts_and_shows_what_fails(script: Path) -> None:
    script.write_text(SCRIPT)
    assert simulate(job(script), {}).level == "ok"
    script.write_text("raise KeyError('the column is missing')\n")
    finding = simulate(job(script), {})
    assert finding.level == "fail"
    assert "KeyError: 'the column is missing'" in finding.what


def test_what_a_failed_script_says_does_nothing_to_the_table_and_shows_no_secret(
    script: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "hun" + "ter2-and-words"
    script.write_text("import os\nprint('begun')\nraise ValueError('\x1b[2J\\nok is ' + os.environ['THE_TOKEN'])\n")
    finding = simulate(job(script, env={"THE_TOKEN": secret}, launcher="none", instance_count=1), {})
    assert finding.level == "fail"
    assert "the job failed on algo-1" in finding.what
    assert "ok is ***" in finding.what
    assert "\x1b" not in finding.what
    assert "\n" not in finding.what
    assert secret not in finding.what
    out, err = capfd.readouterr()
    assert out == ""  # the request's, as JSON
    assert "begun" in err


@pytest.mark.parametrize(("raised", "level"), [(OSError("No space left on device"), "fail"), (None, "exit")])
def test_what_ends_a_simulation_otherwise_is_a_finding_or_ends_this_process(
    script: Path, monkeypatch: pytest.MonkeyPatch, raised: OSError | None, level: str
) -> None:
    def run(_: object) -> Result:
        if raised is not None:
            raise raised
        return Result(128 + 15, 1.0, None, None)  # SIGTERM came

    monkeypatch.setattr(command, "run_simulation", run)
    made = job(script, launcher="none", instance_count=1)
    if level == "exit":
        with pytest.raises(SystemExit) as ended:
            simulate(made, {})
        assert ended.value.code == 128 + 15
    else:
        assert (simulate(made, {}).level, str(raised) in simulate(made, {}).what) == (level, True)


def test_a_script_that_reads_a_channel_is_run_with_local_files_or_not_at_all(script: Path, tmp_path: Path) -> None:
    script.write_text("import os\nassert os.listdir(os.environ['SM_CHANNEL_TRAIN']) == ['a.csv']\n")
    made = job(script, channels={"train": "s3://bucket/data"}, launcher="none", instance_count=1)
    finding = simulate(made, {})
    assert (finding.level, "channel train lies in S3 only" in finding.what) == ("unknown", True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    assert simulate(made, {"train": tmp_path / "data"}).level == "ok"


def test_the_simulation_has_the_source_folder_channels_checkpoints_and_image_of_the_job(tmp_path: Path) -> None:
    script, data = tmp_path / "code/parts/train.py", tmp_path / "data"
    for folder in (script.parent, data):
        folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (data / name).touch()
    (tmp_path / "code/shared.py").write_text("VALUE = 5\n")
    script.write_text(
        "import importlib.util, json, os, sys\n"
        "sys.path.append(os.getcwd())\n"
        "import shared\n"
        "base = os.environ['SAGEMAKER_BASE_DIR']\n"
        "kept = json.load(open(base + '/input/config/checkpointconfig.json'))['LocalPath']\n"
        "smddp = importlib.util.find_spec('smdistributed') is not None\n"
        "files = os.listdir(os.environ['SM_CHANNEL_TRAIN'])\n"
        "raise KeyError(f'found {shared.VALUE} {files} {os.listdir(kept)} {smddp} {sys.argv[1:]}')\n"
    )
    made = job(
        script,
        source_dir=tmp_path / "code",
        channels={"train": "s3://bucket/data:sharded"},
        checkpoint_uri="s3://bucket/kept",
        launcher="torchrun",
        torch="2.5",
        arguments=["fit", "--fast"],
    )
    what = simulate(made, {"train": data}).what
    assert "2 simulated host(s)" in what
    assert re.search(r"found 5 \['[ab].csv'\] \[\] True \['fit', '--fast'\]", what), what
    made = made.changed(torch="2.8.0", launcher="smddprun", instance_count=1)
    assert "found 5 ['a.csv', 'b.csv'] [] False ['fit', '--fast']" in simulate(made, {"train": data}).what


def test_values_of_variables_are_in_no_command_line(script: Path) -> None:
    script.write_text(
        "import os, pathlib\n"
        "lines = [path.read_bytes() for path in pathlib.Path('/proc').glob('[0-9]*/cmdline')]\n"
        "assert os.environ['WANDB_API_KEY'] == 'the' + 'value'\n"
        "assert not any(b'the' b'value' in line for line in lines)\n"
    )
    finding = simulate(job(script, env={"WANDB_API_KEY": "thevalue"}, launcher="none", instance_count=1), {})
    assert finding.level == "ok", finding.what


def test_without_a_session_what_aws_would_say_is_unknown_and_the_api_s_limits_are_checked(script: Path) -> None:
    found = {one.name: one for one in check_all(job(script, retries=99))}
    assert (found["AWS"].level, found["RetryStrategy.MaximumRetryAttempts"].level) == ("unknown", "fail")
    assert "boto3.Session()" in found["AWS"].fix


def test_the_known_strategies_are_those_of_lightning_s_registries() -> None:
    pytorch = importlib.import_module("lightning.pytorch.strategies").StrategyRegistry
    fabric = importlib.import_module("lightning.fabric.strategies").STRATEGY_REGISTRY
    assert {*pytorch, *fabric} - {*KNOWN} == set()


def test_a_script_that_hangs_fails_the_simulation_and_leaves_no_process(script: Path) -> None:
    seen = script.parent / "seen"
    script.write_text(f"import os, time\nopen({str(seen)!r}, 'a').write(f'{{os.getpid()}} ')\ntime.sleep(600)\n")
    finding = simulate(job(script), {}, timeout=15)
    assert finding.level == "fail"
    assert "did not end one batch within 15 s" in finding.what
    pids = [int(pid) for pid in seen.read_text().split()]
    assert len(pids) == 2
    left = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    assert not psutil.wait_procs(left, timeout=20)[1]  # orphans, until the first process has seen their end


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
    told = aws.boto3(code)
    compared = {name: known for name in told if (known := instance(name))}
    assert len(compared) > 30
    for name, known in compared.items():
        assert [known.gpus, known.efa] == told[name], name
