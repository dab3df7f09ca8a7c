"""What is found wrong, how bad it is, and that each finding brings its fix."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lightning_sagemaker
from lightning_sagemaker.doctor.report import examine

from .conftest import CPU, HOSTS, MACHINE, MPIRUN, TORCH, TORCHRUN, of_kind, with_import

if TYPE_CHECKING:
    from lightning_sagemaker.doctor.report import Report

    from .conftest import Examine

_VARIABLE = re.compile(r"(?:LIGHTNING_SAGEMAKER_|\{PREFIX\})([A-Z]+(?:_[A-Z]+)*)(?![A-Z_])")
OF_THE_PACKAGE = {  # variables that its code knows
    f"LIGHTNING_SAGEMAKER_{name}"
    for path in Path(lightning_sagemaker.__path__[0]).rglob("*.py")
    for name in _VARIABLE.findall(path.read_text())
}
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


def case(name: str, words: str = "", environ: dict[str, str] | None = None, **given: Any) -> Any:
    """A row of a table: a finding, words in it, and the process in which it is or is not found."""
    return pytest.param(name, words, {"environ": environ, **given}, id=f"{name}: {words or environ or given}")


IMPORTS: dict[str, Any] = {"torch": TORCH, "lightning.pytorch": {"absent": True}, "pytorch_lightning": {"absent": True}}
NO_EFA = replace(MACHINE, efa_devices=())
FAILURES = [
    case("job-malformed", "`RANK`='one'", {**TORCHRUN, "RANK": "one"}),
    case("torch-missing", "torch is not installed", machine=NO_TORCH),
    case("lightning-missing", "neither `lightning` nor `pytorch_lightning`", machine=replace(MACHINE, imports=IMPORTS)),
    case("import-torch", "libcudart", machine=with_import(MACHINE, "torch", problem="ImportError: libcudart.so.12")),
    case("import-lightning.pytorch", "no x", machine=with_import(MACHINE, "lightning.pytorch", problem="Error: no x")),
    case("not-loaded", "`torch.backends` is not installed", machine=replace(UNHOOKED, entry_point=False)),
    case("not-loaded", "`torch.backends` does nothing", machine=UNHOOKED),
    case("not-loaded", "`torch.backends` does nothing", {"LIGHTNING_SAGEMAKER_AUTOLOAD": "1"}, machine=UNHOOKED),
    case("not-loaded", "`lightning_sagemaker.pth` is not installed", machine=replace(UNHOOKED_OLD, pth=False)),
    case("main-address-loopback", "is localhost", {**TORCHRUN, "MASTER_ADDR": "localhost"}),
    case("main-address-loopback", "is 127.0.1.1", {**TORCHRUN, "MASTER_ADDR": "127.0.1.1"}),
    case("no-such-interface", "interfaces lo, eth0", {**TORCHRUN, "NCCL_SOCKET_IFNAME": "ens5"}),
    case("no-such-interface", "GLOO_SOCKET_IFNAME=eth", {**TORCHRUN, "GLOO_SOCKET_IFNAME": "eth"}),
    case("mpi4py-missing", "mpi4py is not installed", MPIRUN, machine=replace(MACHINE, versions={})),
    case("setting-malformed", "`LIGHTNING_SAGEMAKER_HEARTBEAT`='soon'", {"LIGHTNING_SAGEMAKER_HEARTBEAT": "soon"}),
    case(
        "setting-malformed",
        "/no/such (LIGHTNING_SAGEMAKER_LOCK_DIR), does not exist",
        {"LIGHTNING_SAGEMAKER_LOCK_DIR": "/no/such"},
    ),
    case("checkpoints-unreadable", "no `LocalPath`", machine=replace(MACHINE, checkpoint_problem="no `LocalPath`")),
]
WARNINGS = [
    case("smddp-unusable", "the SMDDP library is not installed", {**MPIRUN, **ASKED}),
    case("smddp-unusable", "started by neither", ASKED, machine=SMDDP),
    case("smddp-advice", "under torchrun it falls back to NCCL", {**TORCHRUN, **ASKED}, machine=SMDDP),
    case(
        "smddp-advice",
        "this host is ml.g5.xl",
        {**MPIRUN, **ASKED},
        machine=SMDDP,
        current_instance_type="ml.g5.xlarge",
    ),
    case("autoload-off", "LIGHTNING_SAGEMAKER_AUTOLOAD=0", {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}, machine=UNHOOKED),
    case("torch-autoload-off", "_AUTOLOAD=0", {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, machine=UNHOOKED),
    case("gpus-idle", "6 of them stay idle", {**TORCHRUN, "RANK": "2", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}),
    case("gpus-unseen", "8 GPU(s), but torch sees none", machine=CPU),
    case("no-such-interface", "GLOO_SOCKET_IFNAME=eth1", {"GLOO_SOCKET_IFNAME": "eth1"}, **ONE),
    case("efa-missing", "ml.p4d.24xlarge has EFA", machine=NO_EFA),
    case("efa-missing", "FI_PROVIDER=efa, but ml.g5.2xl", machine=NO_EFA, current_instance_type="ml.g5.2xlarge"),
    case("efa-unused", "FI_PROVIDER=tcp", {**TORCHRUN, "FI_PROVIDER": "tcp"}),
    case("efa-unused", "NCCL_NET=Socket", {**TORCHRUN, "NCCL_NET": "Socket"}),
    case("efa-provider-unset", "FI_PROVIDER is not set", {**TORCHRUN, "FI_PROVIDER": ""}),
    case("shared-memory-small", "has 64 MiB", machine=replace(MACHINE, shared_memory=64 * 2**20)),
    case("setting-malformed", "_AUTOLOAD`='perhaps'; expected 1", {"LIGHTNING_SAGEMAKER_AUTOLOAD": "perhaps"}),
    case("setting-unknown", "not a setting", {**TORCHRUN, "LIGHTNING_SAGEMAKER_RESUM": "1"}),
    case(
        "nothing-to-resume",
        "no checkpoint folder",
        {**TORCHRUN, "LIGHTNING_SAGEMAKER_RESUME": "1"},
        machine=replace(MACHINE, checkpoint_folder=None),
    ),
]


@pytest.mark.parametrize(("name", "words", "given"), FAILURES)
def test_what_fails_is_found_and_brings_its_fix(in_job: Examine, name: str, words: str, given: Any) -> None:
    is_found(in_job(**given), name, words, "fail")


@pytest.mark.parametrize(("name", "words", "given"), WARNINGS)
def test_what_may_fail_is_found_and_brings_its_fix(in_job: Examine, name: str, words: str, given: Any) -> None:
    is_found(in_job(**given), name, words, "warn")


def is_found(report: Report, name: str, words: str, level: str) -> None:
    found = of_kind(report, name)
    assert [each.level for each in found] == [level] * len(found)
    assert any(words in each.what for each in found), report.findings
    assert all(each.fix.startswith("HINT: ") for each in found)
    assert report.exit_code == any(each.level == "fail" for each in report.findings)
    assert f"- **{level.upper()}** " in report.as_markdown()
    assert not of_kind(report, "healthy")


LOOPBACK: dict[str, Any] = {"machine": CPU, "network_interface_name": "lo"}
WELL = [
    case("smddp-unusable", environ={**MPIRUN, **ASKED}, machine=SMDDP),
    case("smddp-advice", environ={**MPIRUN, **ASKED}, machine=SMDDP),
    case("smddp-advice", environ={**MPIRUN, "PL_TRAINER_STRATEGY": "smddp_fsdp"}, machine=SMDDP),
    case("smddp-advice", environ={**TORCHRUN, "PL_TRAINER_STRATEGY": "smddp_fsdp"}, machine=SMDDP),
    case("smddp-unusable", environ=TORCHRUN),
    case("main-address-loopback", environ={**TORCHRUN, "MASTER_ADDR": "127.0.0.1"}, **LOOPBACK),
    case("efa-missing", **LOOPBACK),
    case("gpus-unseen", **LOOPBACK),
    *(
        case("no-such-interface", environ={**TORCHRUN, "NCCL_SOCKET_IFNAME": name})
        for name in ("^docker,lo", "eth,ens", "=eth0")
    ),
    case("mpi4py-missing", environ=TORCHRUN, machine=replace(MACHINE, versions={})),
    case("nothing-to-resume", environ={"LIGHTNING_SAGEMAKER_RESUME": "1"}),
    *(case("setting-unknown", environ={name: "x"}) for name in sorted(OF_THE_PACKAGE)),
    case("setting-malformed", environ={"LIGHTNING_SAGEMAKER_METRICS": "true"}),
    case("autoload-off", environ={"LIGHTNING_SAGEMAKER_AUTOLOAD": "1"}),
    case("torch-autoload-off", environ={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}),  # the .pth file loaded it
]


@pytest.mark.parametrize(("name", "_words", "given"), WELL)
def test_it_is_not_found_where_all_is_well(in_job: Examine, name: str, _words: str, given: Any) -> None:
    assert of_kind(in_job(**given), name) == []


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
    facts = {fact.name: fact.value for _, facts in in_job({**TORCHRUN, **environ}).sections.values() for fact in facts}
    assert {name: facts[name] for name in state} == state
