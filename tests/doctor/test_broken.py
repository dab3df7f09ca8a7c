"""A broken environment is told, and never ends the doctor."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_sagemaker.doctor import checks, sections
from lightning_sagemaker.doctor.report import examine
from lightning_sagemaker.doctor.situation import Machine

from .conftest import MACHINE, MPIRUN, TORCHRUN, of_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Examine

NAMES = (
    *(*TORCHRUN, *MPIRUN, "NODE_RANK", "GROUP_RANK", "MASTER_PORT", "SM_NUM_GPUS", "SM_RESOURCE_CONFIG"),
    *("SM_HOST_COUNT", "SM_DISTRIBUTION_INSTANCE_GROUPS", "CURRENT_HOST", "PL_TRAINER_DEVICES"),
    *("PL_TRAINER_NUM_NODES", "TRAINING_JOB_ARN"),
    *("PL_TRAINER_STRATEGY", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "CUDA_VISIBLE_DEVICES", "MY_TOKEN"),
    *("LIGHTNING_SAGEMAKER_HEARTBEAT", "LIGHTNING_SAGEMAKER_LOCK_DIR", "LIGHTNING_SAGEMAKER_ODD", "SLURM_NTASKS"),
)
VALUES = (
    *("", "0", "-1", "8", "99999999999", "none", "²", "\x1b[31m", "`|`\n# x", "\udcff", "{", "[]", "null", "\0"),
    *("a" * 300, "9" * 5000),
)


@pytest.mark.parametrize(
    "value", ["/no/such/folder", "x" * 5000, "a\0b", "/etc/hosts"], ids=["absent", "long", "no path", "a file"]
)
def test_a_lock_folder_that_is_none_is_malformed(in_job: Examine, value: str) -> None:
    assert of_kind(in_job({"LIGHTNING_SAGEMAKER_LOCK_DIR": value}), "setting-malformed")


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        b"\xff\xfe",
        "{}",
        '{"hosts": []}',
        '{"hosts": ["a"], "current_host": "b"}',
        "[" * 9999,
    ],
)
def test_a_malformed_file_is_a_failure_with_its_text(in_job: Examine, config: Any) -> None:
    report = in_job(config=config)
    (finding,) = of_kind(report, "job-malformed")
    assert "resourceconfig.json" in finding.what
    assert report.exit_code == 1


def test_a_folder_in_place_of_the_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "input" / "config" / "resourceconfig.json").mkdir(parents=True)
    assert of_kind(examine({"TRAINING_JOB_NAME": "digits"}, tmp_path, MACHINE), "job-malformed")


def test_a_training_job_without_its_file_is_a_failure(tmp_path: Path) -> None:
    (finding,) = of_kind(examine({"TRAINING_JOB_ARN": "arn"}, tmp_path, MACHINE), "job-malformed")
    assert "no file" in finding.what


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20), max_size=8))
def test_any_values_give_a_report_that_can_be_printed(in_job: Examine, broken: dict[str, str]) -> None:
    for launcher in (TORCHRUN, MPIRUN, {}):
        report = in_job({**launcher, **broken})
        assert of_kind(report, "doctor-stumbled") == []
        assert json.loads(json.dumps(report.as_json()))["sections"].keys() == sections.SECTIONS.keys()
        assert report.as_markdown().encode()


def test_a_machine_of_which_nothing_is_known_gives_a_report(in_job: Examine) -> None:
    unknown = Machine(versions={}, imports={})
    for environ in (TORCHRUN, MPIRUN, {}, {"PL_TRAINER_STRATEGY": "smddp"}):
        assert of_kind(in_job(environ, unknown), "doctor-stumbled") == []


def test_a_lookout_that_fails_is_told_and_hides_nothing_else(in_job: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(_: object) -> Iterator[Any]:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("lightning_sagemaker.doctor.report.CHECKS", (stumble, checks.shared_memory))
    monkeypatch.setattr("lightning_sagemaker.doctor.report.SECTIONS", {**sections.SECTIONS, "job": ("Job", stumble)})
    report = in_job(None, replace(MACHINE, shared_memory=1))
    assert [each.what for each in of_kind(report, "doctor-stumbled")] == [
        "the doctor could not examine Job: ZeroDivisionError: by nought",
        "the doctor could not examine stumble: ZeroDivisionError: by nought",
    ]
    assert of_kind(report, "shared-memory-small")
    assert len(report.sections) == len(sections.SECTIONS)
