"""What is found wrong, how bad it is, and that each finding brings its fix."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.doctor.examination import examine

from .conftest import CPU, HOSTS, MACHINE, MPIRUN, TORCH, TORCHRUN, of_kind, with_import

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_sagemaker.doctor.machine import Machine

    from .conftest import Examine

SMDDP = with_import(MACHINE, "smddp", version="2.6.0", problem=None)
ASKED = {"PL_TRAINER_STRATEGY": "smddp"}
ONE = {"hosts": ["algo-1"], "current_host": "algo-1"}
UNHOOKED = with_import(MACHINE, "torch", **{**TORCH, "hooked": False})
UNHOOKED_OLD = with_import(MACHINE, "torch", **{**TORCH, "hooked": False, "autoloads": False})
NO_TORCH = replace(
    MACHINE,
    imports={
        "torch": {"absent": True},
        "lightning.pytorch": {"problem": "ModuleNotFoundError: No module named 'torch'"},
        "pytorch_lightning": {"absent": True},
    },
)


def test_a_healthy_job_has_one_finding_and_exit_code_0(in_job: Examine) -> None:
    report = in_job()
    assert [(each.name, each.level) for each in report.findings] == [("healthy", "ok")]
    assert report.exit_code == 0


@pytest.mark.parametrize(("hosts", "level"), [(HOSTS, "warn"), (HOSTS[1:], None)])
def test_channels_that_are_sharded_are_told_where_several_hosts_train_together(
    in_job: Examine, tmp_path: Path, hosts: tuple[str, ...], level: str | None
) -> None:
    channels = '{"train": {"S3DistributionType": "ShardedByS3Key"}}'
    in_job(hosts=list(hosts))  # makes the folder
    (tmp_path / "input" / "config" / "inputdataconfig.json").write_text(channels)
    report = in_job({}, hosts=list(hosts))
    found = of_kind(report, "channels-sharded")
    assert [each.level for each in found] == ([level] if level else [])
    assert not found or ("train" in found[0].what and "FullyReplicated" in found[0].fix)
    assert report.exit_code == 0


def test_channels_that_cannot_be_read_are_a_warning(in_job: Examine) -> None:
    (finding,) = of_kind(in_job({**TORCHRUN, "SM_INPUT_DATA_CONFIG": '{"train'}), "channels-malformed")
    assert finding.level == "warn"
    assert finding.what.startswith("SM_INPUT_DATA_CONFIG is not JSON")
    assert finding.fix.startswith("HINT: ")


def test_outside_a_job_is_no_failure(tmp_path: Path) -> None:
    report = examine({}, tmp_path, MACHINE)
    (finding,) = of_kind(report, "outside-job")
    assert finding.level == "ok"
    assert report.exit_code == 0


def test_marks_of_a_job_without_its_files_are_told(tmp_path: Path) -> None:
    report = examine({"TRAINING_JOB_NAME": "digits"}, tmp_path, MACHINE)
    assert "there is no resourceconfig.json" in of_kind(report, "outside-job")[0].what


def test_v3_mpi_that_starts_the_processes_of_one_host_only_fails_with_the_repair(in_job: Examine) -> None:
    one_host = {**MPIRUN, "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "8", "SM_HOST_COUNT": "2"}
    report = in_job(one_host)
    (finding,) = of_kind(report, "job-malformed")
    assert finding.level == "fail"
    assert '"-np", "16"' in finding.fix
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("environ", "machine", "changes", "name", "level", "words"),
    [
        ({**TORCHRUN, "RANK": "one"}, MACHINE, {}, "job-malformed", "fail", "`RANK`='one'"),
        (None, NO_TORCH, {}, "torch-missing", "fail", "torch is not installed"),
        (
            None,
            replace(
                MACHINE,
                imports={"torch": TORCH, "lightning.pytorch": {"absent": True}, "pytorch_lightning": {"absent": True}},
            ),
            {},
            "lightning-missing",
            "fail",
            "neither `lightning` nor `pytorch_lightning`",
        ),
        (
            None,
            with_import(MACHINE, "torch", problem="ImportError: libcudart.so.12"),
            {},
            "import-torch",
            "fail",
            "libcudart.so.12",
        ),
        (
            None,
            with_import(MACHINE, "lightning.pytorch", problem="ImportError: cannot import name 'x'"),
            {},
            "import-lightning.pytorch",
            "fail",
            "cannot import name 'x'",
        ),
        # SMDDP
        ({**MPIRUN, **ASKED}, MACHINE, {}, "smddp-unusable", "warn", "the SMDDP library is not installed"),
        (ASKED, SMDDP, {}, "smddp-unusable", "warn", "started by neither"),
        ({**TORCHRUN, **ASKED}, SMDDP, {}, "smddp-advice", "warn", "under torchrun it falls back to NCCL"),
        (
            {**MPIRUN, **ASKED},
            SMDDP,
            {"current_instance_type": "ml.g5.48xlarge"},
            "smddp-advice",
            "warn",
            "this host is ml.g5.48xlarge",
        ),
        # the plugin
        ({"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}, UNHOOKED, {}, "autoload-off", "warn", "LIGHTNING_SAGEMAKER_AUTOLOAD=0"),
        (
            {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
            UNHOOKED,
            {},
            "torch-autoload-off",
            "warn",
            "TORCH_DEVICE_BACKEND_AUTOLOAD=0",
        ),
        (None, replace(UNHOOKED, entry_point=False), {}, "not-loaded", "fail", "`torch.backends` is not installed"),
        (None, UNHOOKED, {}, "not-loaded", "fail", "`torch.backends` does nothing"),
        ({"LIGHTNING_SAGEMAKER_AUTOLOAD": "1"}, UNHOOKED, {}, "not-loaded", "fail", "`torch.backends` does nothing"),
        (
            None,
            replace(UNHOOKED_OLD, pth=False),
            {},
            "not-loaded",
            "fail",
            "`lightning_sagemaker.pth` is not installed",
        ),
        # GPUs
        (
            {**TORCHRUN, "RANK": "2", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
            MACHINE,
            {},
            "gpus-idle",
            "warn",
            "6 of them stay idle",
        ),
        (None, CPU, {}, "gpus-unseen", "warn", "8 GPU(s), but torch sees none"),
        # between hosts
        ({**TORCHRUN, "MASTER_ADDR": "localhost"}, MACHINE, {}, "main-address-loopback", "fail", "is localhost"),
        ({**TORCHRUN, "MASTER_ADDR": "127.0.1.1"}, MACHINE, {}, "main-address-loopback", "fail", "is 127.0.1.1"),
        ({**TORCHRUN, "NCCL_SOCKET_IFNAME": "ens5"}, MACHINE, {}, "no-such-interface", "fail", "interfaces lo, eth0"),
        ({**TORCHRUN, "GLOO_SOCKET_IFNAME": "eth"}, MACHINE, {}, "no-such-interface", "fail", "GLOO_SOCKET_IFNAME=eth"),
        ({"GLOO_SOCKET_IFNAME": "eth1"}, MACHINE, ONE, "no-such-interface", "warn", "GLOO_SOCKET_IFNAME=eth1"),
        (None, replace(MACHINE, efa_devices=()), {}, "efa-missing", "warn", "ml.p4d.24xlarge has EFA"),
        (
            None,
            replace(MACHINE, efa_devices=()),
            {"current_instance_type": "ml.g5.2xlarge"},
            "efa-missing",
            "warn",
            "FI_PROVIDER=efa, but ml.g5.2xlarge",
        ),
        ({**TORCHRUN, "FI_PROVIDER": "tcp"}, MACHINE, {}, "efa-unused", "warn", "FI_PROVIDER=tcp"),
        ({**TORCHRUN, "NCCL_NET": "Socket"}, MACHINE, {}, "efa-unused", "warn", "NCCL_NET=Socket"),
        ({**TORCHRUN, "FI_PROVIDER": ""}, MACHINE, {}, "efa-provider-unset", "warn", "FI_PROVIDER is not set"),
        (MPIRUN, replace(MACHINE, versions={}), {}, "mpi4py-missing", "fail", "mpi4py is not installed"),
        (None, replace(MACHINE, shared_memory=64 * 2**20), {}, "shared-memory-small", "warn", "has 64 MiB"),
        # settings and checkpoints
        (
            {**TORCHRUN, "LIGHTNING_SAGEMAKER_HEARTBEAT": "soon"},
            MACHINE,
            {},
            "setting-malformed",
            "fail",
            "`LIGHTNING_SAGEMAKER_HEARTBEAT`='soon'",
        ),
        (
            {**TORCHRUN, "LIGHTNING_SAGEMAKER_LOCK_DIR": "/no/such"},
            MACHINE,
            {},
            "setting-malformed",
            "fail",
            "/no/such (LIGHTNING_SAGEMAKER_LOCK_DIR), does not exist",
        ),
        (
            {**TORCHRUN, "LIGHTNING_SAGEMAKER_AUTOLOAD": "perhaps"},
            MACHINE,
            {},
            "setting-malformed",
            "warn",
            "`LIGHTNING_SAGEMAKER_AUTOLOAD`='perhaps'; expected 1",
        ),
        ({**TORCHRUN, "LIGHTNING_SAGEMAKER_RESUM": "1"}, MACHINE, {}, "setting-unknown", "warn", "not a setting"),
        (
            {**TORCHRUN, "LIGHTNING_SAGEMAKER_RESUME": "1"},
            replace(MACHINE, checkpoint_folder=None),
            {},
            "nothing-to-resume",
            "warn",
            "no checkpoint folder",
        ),
        (
            None,
            replace(MACHINE, checkpoint_problem="ValueError: checkpointconfig.json has no `LocalPath`"),
            {},
            "checkpoints-unreadable",
            "fail",
            "no `LocalPath`",
        ),
    ],
)
def test_it_is_found_and_brings_its_fix(  # noqa: PLR0917 - a row of the table
    in_job: Examine,
    environ: dict[str, str] | None,
    machine: Machine,
    changes: dict[str, Any],
    name: str,
    level: str,
    words: str,
) -> None:
    report = in_job(environ, machine, **changes)
    found = of_kind(report, name)
    assert [each.level for each in found] == [level] * len(found)
    assert any(words in each.what for each in found), report.findings
    assert all(each.fix.startswith("HINT: ") for each in found)
    assert report.exit_code == any(each.level == "fail" for each in report.findings)
    assert f"- **{level.upper()}** " in report.as_markdown()
    assert not of_kind(report, "healthy")


@pytest.mark.parametrize(
    ("environ", "machine", "changes", "name"),
    [
        ({**MPIRUN, **ASKED}, SMDDP, {}, "smddp-unusable"),
        ({**MPIRUN, **ASKED}, SMDDP, {}, "smddp-advice"),
        ({**MPIRUN, "PL_TRAINER_STRATEGY": "smddp_fsdp"}, SMDDP, {}, "smddp-advice"),
        ({**TORCHRUN, "PL_TRAINER_STRATEGY": "smddp_fsdp"}, SMDDP, {}, "smddp-advice"),
        (TORCHRUN, MACHINE, {}, "smddp-unusable"),
        ({**TORCHRUN, "MASTER_ADDR": "127.0.0.1"}, CPU, {"network_interface_name": "lo"}, "main-address-loopback"),
        (None, CPU, {"network_interface_name": "lo"}, "efa-missing"),
        (None, CPU, {"network_interface_name": "lo"}, "gpus-unseen"),
        ({**TORCHRUN, "NCCL_SOCKET_IFNAME": "^docker,lo"}, MACHINE, {}, "no-such-interface"),
        ({**TORCHRUN, "NCCL_SOCKET_IFNAME": "eth,ens"}, MACHINE, {}, "no-such-interface"),
        ({**TORCHRUN, "NCCL_SOCKET_IFNAME": "=eth0"}, MACHINE, {}, "no-such-interface"),
        (TORCHRUN, replace(MACHINE, versions={}), {}, "mpi4py-missing"),
        ({"LIGHTNING_SAGEMAKER_RESUME": "1"}, MACHINE, {}, "nothing-to-resume"),
        ({"LIGHTNING_SAGEMAKER_STANDIN_LOG": "x"}, MACHINE, {}, "setting-unknown"),
        ({"LIGHTNING_SAGEMAKER_METRICS": "true"}, MACHINE, {}, "setting-malformed"),
        ({"LIGHTNING_SAGEMAKER_AUTOLOAD": "1"}, MACHINE, {}, "autoload-off"),
        ({"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, MACHINE, {}, "torch-autoload-off"),  # the .pth file loaded it
    ],
)
def test_it_is_not_found_where_all_is_well(
    in_job: Examine, environ: dict[str, str] | None, machine: Machine, changes: dict[str, Any], name: str
) -> None:
    assert of_kind(in_job(environ, machine, **changes), name) == []


def test_outside_jobs_an_old_torch_need_not_load_the_plugin(tmp_path: Path) -> None:
    assert of_kind(examine({}, tmp_path, UNHOOKED_OLD), "not-loaded") == []
    assert of_kind(examine({}, tmp_path, UNHOOKED), "not-loaded")[0].level == "warn"


def test_without_torch_lightning_s_failure_is_not_told_a_second_time(in_job: Examine) -> None:
    assert [each.name for each in in_job(None, NO_TORCH).findings] == ["torch-missing"]


def test_the_worst_stands_first(in_job: Examine) -> None:
    report = in_job({**TORCHRUN, "MASTER_ADDR": "localhost"}, replace(MACHINE, shared_memory=1))
    assert [each.level for each in report.findings] == ["fail", "warn"]


def test_a_misspelt_setting_is_answered_with_the_right_name(in_job: Examine) -> None:
    (finding,) = of_kind(in_job({"LIGHTNING_SAGEMAKER_HARTBEAT": "3"}), "setting-unknown")
    assert finding.fix == "HINT: LIGHTNING_SAGEMAKER_HEARTBEAT?"


def test_hosts_of_a_malformed_job_are_told_where_they_can_be_read(in_job: Examine) -> None:
    report = in_job({**TORCHRUN, "RANK": "one"})
    job = report.as_json()["sections"]["job"]
    assert job["hosts"]["value"] == HOSTS
    assert job["launcher"]["value"] is None


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({}, {"resume": "off", "metric_lines": "off", "progress_bar": "off", "export": "off"}),
        ({"LIGHTNING_SAGEMAKER_EXPORT": "best"}, {"export": "on"}),
        ({"LIGHTNING_SAGEMAKER_EXPORT": "last", "LIGHTNING_SAGEMAKER_DISABLE": "export"}, {"export": "off"}),
        ({"LIGHTNING_SAGEMAKER_METRICS": "yes"}, {"metric_lines": "on", "progress_bar": "on", "resume": "off"}),
    ],
)
def test_changes_that_are_asked_for_are_on_where_their_variable_says_so(
    in_job: Examine, environ: dict[str, str], state: dict[str, str]
) -> None:
    facts = {fact.name: fact.value for section in in_job({**TORCHRUN, **environ}).sections for fact in section.facts}
    assert {name: facts[name] for name in state} == state
