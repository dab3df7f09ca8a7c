"""What the doctor says in every launch mode; LIGHTNING_SAGEMAKER_UPDATE_SNAPSHOTS=1 writes it anew."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.doctor.report import examine

from ..job.launch_modes import MODES, Process  # noqa: TID252 - importmode=importlib
from .conftest import CPU, MACHINE, TORCH, with_import

if TYPE_CHECKING:
    from lightning_sagemaker.doctor.report import Report

SNAPSHOTS = Path(__file__).with_name("snapshots")
OF_THE_JOB = ("job", "world", "smddp")


def examined(process: Process, base: Path) -> Report:
    """The report of a process on a machine that fits its instance type, with what the launchers set for NCCL."""
    gpus = process.world.accelerators[0]
    machine = with_import(MACHINE, "torch", **{**TORCH, "gpus": gpus}) if gpus else CPU
    with_efa = process.instance_type == "ml.p4d.24xlarge"
    machine = replace(machine, efa_devices=MACHINE.efa_devices if with_efa else ())
    environ = process.environ | {"AWS_SESSION_TOKEN": "never-to-be-seen"}
    if process.world.launcher != "none" and machine.efa_devices:
        environ |= {"FI_PROVIDER": "efa", "NCCL_SOCKET_IFNAME": "eth0", "NCCL_PROTO": "simple"}
    folder = base / "input" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resourceconfig.json").write_text(json.dumps(process.config), encoding="utf-8")
    return examine(environ, base, machine)


@pytest.mark.parametrize("name", MODES)
def test_the_last_process_of_each_launch_mode_is_told_as_before(name: str, tmp_path: Path) -> None:
    *_, last = MODES[name].processes()
    report = examined(last, tmp_path)
    told = replace(
        report, sections={key: report.sections[key] for key in report.sections if key in OF_THE_JOB}
    ).as_markdown()
    snapshot = SNAPSHOTS / f"{name}.md"
    if os.environ.get("LIGHTNING_SAGEMAKER_UPDATE_SNAPSHOTS") == "1":
        snapshot.write_text(told, encoding="utf-8")
        pytest.skip("written, not compared")
    assert told == snapshot.read_text(encoding="utf-8")


def test_no_snapshot_is_left_over_from_a_mode_that_is_gone() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(MODES)


@pytest.mark.parametrize("name", MODES)
def test_every_process_of_each_launch_mode_is_told_its_place_and_nothing_fails(name: str, tmp_path: Path) -> None:
    for process in MODES[name].processes():
        report = examined(process, tmp_path)
        expected = process.expected
        told = {fact: each["value"] for fact, each in report.as_json()["sections"]["world"].items()}
        told.pop("interfaces")
        assert told == {fact: getattr(expected, fact) for fact in told}
        assert len(told) == 10
        assert report.exit_code == 0, report.findings
