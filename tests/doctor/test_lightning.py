"""What the doctor says of Lightning is what Lightning does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.doctor.report import examine

from ..job.launch_modes import MODES, started_by_lightning  # noqa: TID252 - importmode=importlib
from .conftest import CPU, MACHINE, TRAINER, with_import

if TYPE_CHECKING:
    from .conftest import Examine

PROGRAM = Path(__file__).with_name("made_in_environments.py")
NONE, TORCHRUN, MPIRUN = "v2-none-2-hosts", "v2-torch_distributed-2-hosts", "v2-mpi-2-hosts"
# A launch mode, and variables that make it a good or a bad one; a name without a value is taken away.
GOOD: dict[str, tuple[str, dict[str, str | None]]] = {
    "smddp without its library": (MPIRUN, {"PL_TRAINER_STRATEGY": "smddp"}),
    "ddp under torchrun": (TORCHRUN, {"PL_TRAINER_STRATEGY": "ddp"}),
    "unused parameters": (TORCHRUN, {"PL_TRAINER_STRATEGY": "ddp_find_unused_parameters_true"}),
    "the job's own numbers": (MPIRUN, {"PL_TRAINER_DEVICES": "8", "PL_TRAINER_NUM_NODES": "2"}),
    "devices without a launcher": (NONE, {"PL_TRAINER_DEVICES": "3"}),
    "one device of each host": (NONE, {"PL_TRAINER_DEVICES": "1"}),
    "the CPU, by its name": (TORCHRUN, {"PL_TRAINER_ACCELERATOR": "cpu"}),
    "WORLD_SIZE of the script": (NONE, {"WORLD_SIZE": "5"}),
    "another order of hosts": (NONE, {"NODE_RANK": "1"}),
    "no plugin for the environment": (NONE, {"LIGHTNING_SAGEMAKER_DISABLE": "environment"}),
    "no job": (NONE, {"TRAINING_JOB_NAME": None, "TRAINING_JOB_ARN": None, "SM_TRAINING_ENV": None}),
    "a switch that does not exist": (NONE, {"LIGHTNING_SAGEMAKER_DISABLE": "all"}),
    "one process of SLURM's": (NONE, {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash"}),
}
BAD: dict[str, tuple[str, dict[str, str | None]]] = {
    "more hosts than the job has": (TORCHRUN, {"PL_TRAINER_NUM_NODES": "3"}),
    "more hosts than the job has, without a launcher": (NONE, {"PL_TRAINER_NUM_NODES": "3"}),
    "other devices than torchrun's": (TORCHRUN, {"PL_TRAINER_DEVICES": "3"}),
    "other devices than mpirun's": (MPIRUN, {"PL_TRAINER_DEVICES": "[0]"}),
    "no such strategy": (NONE, {"PL_TRAINER_STRATEGY": "foo"}),
    "a strategy that starts all again": (TORCHRUN, {"PL_TRAINER_STRATEGY": "ddp_spawn"}),
    "no such accelerator": (NONE, {"PL_TRAINER_ACCELERATOR": "warp"}),
    "no GPU": (NONE, {"PL_TRAINER_ACCELERATOR": "gpu"}),
    "no such precision": (NONE, {"PL_TRAINER_PRECISION": "7"}),
    "devices that are no number": (NONE, {"PL_TRAINER_DEVICES": "many"}),
    "negative devices": (NONE, {"PL_TRAINER_DEVICES": "-7"}),
    "torchrun without a rank": (TORCHRUN, {"RANK": None}),
    "torchrun with a rank beyond the world": (TORCHRUN, {"RANK": "99"}),
    "torchrun on some of the hosts": (TORCHRUN, {"WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "1"}),
    "mpirun with a rank that is no number": (MPIRUN, {"OMPI_COMM_WORLD_RANK": "first"}),
    "mpirun without local ranks": (MPIRUN, {"OMPI_COMM_WORLD_LOCAL_SIZE": None}),
    "a host that the job does not have": (NONE, {"NODE_RANK": "7"}),
    "a job that cannot be read": (NONE, {"SAGEMAKER_BASE_DIR": "/nowhere", "SM_RESOURCE_CONFIG": "{"}),
    "smddp or an error": (MPIRUN, {"PL_TRAINER_STRATEGY": "smddp", "LIGHTNING_SAGEMAKER_ON_MISSING": "error"}),
    "no such policy": (MPIRUN, {"LIGHTNING_SAGEMAKER_ON_MISSING": "x", "PL_TRAINER_STRATEGY": "smddp"}),
}


def environments(folder: Path) -> dict[str, dict[str, str]]:
    """By name, whole environments; with a folder of the job's files each."""
    made = {}
    for name, mode in MODES.items():
        *_, last = mode.processes()
        made[name] = (last, dict(last.environ))
    first = next(MODES[NONE].processes())
    made["started by Lightning"] = (first, started_by_lightning(first.environ, first.expected, 8, 3))
    for name, (basis, changes) in (GOOD | BAD).items():
        process = next(MODES[basis].processes())
        changed = {**process.environ, **changes}
        made[name] = (process, {key: value for key, value in changed.items() if value is not None})
    whole = {}
    for index, (name, (process, environ)) in enumerate(made.items()):
        config = folder / str(index) / "input" / "config"
        config.mkdir(parents=True)
        (config / "resourceconfig.json").write_text(json.dumps(process.config))
        own = {"PATH": os.environ["PATH"], "SAGEMAKER_BASE_DIR": str(folder / str(index)), "CUDA_VISIBLE_DEVICES": ""}
        whole[name] = own | environ
    return whole


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, str], dict[str, Any], dict[str, Any]]]:
    """By name: the environment, what the doctor is told of it, and what a script got."""
    made = environments(tmp_path_factory.mktemp("jobs"))
    done = subprocess.run(
        [sys.executable, PROGRAM], input=json.dumps([*made.values()]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    return {name: (environ, *answer) for (name, environ), answer in zip(made.items(), answers, strict=True)}


@pytest.mark.xdist_group("doctor-lightning")
@pytest.mark.parametrize("name", [*MODES, "started by Lightning", *GOOD])
def test_a_trainer_does_what_was_told(asked: dict[str, Any], name: str) -> None:
    environ, told, got = asked[name]
    report = examine(environ, Path(environ["SAGEMAKER_BASE_DIR"]), replace(CPU, imports={**CPU.imports, **told}))
    facts = {fact: each["value"] for fact, each in report.as_json()["sections"]["lightning"].items()}
    assert "error" not in got
    assert {fact: facts[fact] for fact in got} == got
    assert report.exit_code == 0, report.findings


@pytest.mark.xdist_group("doctor-lightning")
@pytest.mark.parametrize("name", BAD)
def test_what_a_trainer_raises_is_a_failure_with_its_text(asked: dict[str, Any], name: str) -> None:
    environ, told, got = asked[name]
    report = examine(environ, Path(environ["SAGEMAKER_BASE_DIR"]), replace(CPU, imports={**CPU.imports, **told}))
    what = got["error"].partition("HINT: ")[0].split("\n")[0].strip()
    assert [finding for finding in report.findings if finding.level == "fail" and what in finding.what], report.findings


def test_what_fabric_alone_raises_is_a_warning(in_job: Examine) -> None:
    report = in_job(None, with_import(MACHINE, "fabric", problem="ValueError: no"))
    assert [(each.name, each.level, each.what) for each in report.findings] == [
        ("fabric-raises", "warn", "Fabric(): ValueError: no")
    ]
    assert report.exit_code == 0


def test_one_error_of_both_is_told_once(in_job: Examine) -> None:
    machine = MACHINE
    for name in ("trainer", "fabric"):
        machine = with_import(machine, name, problem="ValueError: no HINT: yes")
    assert [(each.name, each.fix) for each in in_job(None, machine).findings] == [("trainer-raises", "HINT: yes")]


def test_a_fabric_that_differs_is_told_fact_by_fact(in_job: Examine) -> None:
    machine = with_import(MACHINE, "fabric", facts={**TRAINER, "strategy": "FSDPStrategy"})
    facts = in_job(None, machine).as_json()["sections"]["lightning"]
    assert (facts["strategy"]["value"], facts["fabric_strategy"]["value"]) == ("DDPStrategy", "FSDPStrategy")
    assert in_job().as_json()["sections"]["lightning"]["fabric"]["value"] == "the same"


def test_without_torch_nothing_is_known(in_job: Examine) -> None:
    facts = in_job({}, replace(MACHINE, imports={})).as_json()["sections"]["lightning"]
    assert {name: (each["value"], each["why"]) for name, each in facts.items()} == dict.fromkeys(
        ("trainer", "fabric"), (None, "unknown: torch cannot be imported")
    )
