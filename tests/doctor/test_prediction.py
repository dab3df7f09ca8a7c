"""What the doctor says that Lightning will do is what Trainers do."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.doctor.examination import examine
from lightning_sagemaker.smddp.probe import Availability

from ..job.launch_modes import MODES, started_by_lightning  # noqa: TID252 - importmode=importlib
from .conftest import CPU, MACHINE, MPIRUN, TORCH, TORCHRUN, with_import

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .conftest import Examine

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
WITH_SMDDP = with_import(CPU, "smddp", version="2.6.0", problem=None)
ASKED = {"PL_TRAINER_STRATEGY": "smddp"}


def prepare(environ: Mapping[str, str], base: Path, config: object, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make this process the one that the variables describe; return them with the folder of its job."""
    folder = base / "input" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resourceconfig.json").write_text(json.dumps(config), encoding="utf-8")
    whole = {**environ, "SAGEMAKER_BASE_DIR": str(base), "PATH": os.environ["PATH"]}
    for name in tuple(os.environ):
        if name not in whole and not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
    for name, value in whole.items():
        monkeypatch.setenv(name, value)
    return whole


def trainer_facts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a Trainer becomes in this process, in the doctor's names."""
    rank_zero = importlib.import_module("lightning_utilities.core.rank_zero").rank_zero_only
    monkeypatch.setattr(rank_zero, "rank", 0, raising=False)  # strategies set it at construction
    pytorch = importlib.import_module("pytorch_lightning")
    trainer = pytorch.Trainer(**QUIET)
    connector, strategy = trainer._accelerator_connector, trainer.strategy
    alone = not hasattr(strategy, "process_group_backend")
    if not alone:
        strategy.set_world_ranks()
    return {
        "cluster_environment": type(connector.cluster_environment).__name__,
        "num_nodes": connector._num_nodes_flag,
        "devices": trainer.num_devices,
        "world_size": trainer.world_size,
        "creates_processes_externally": connector.cluster_environment.creates_processes_externally,
        "strategy": type(strategy).__name__,
        "backend": None if alone else strategy.process_group_backend or strategy._get_process_group_backend(),
    }


def told(environ: Mapping[str, str], base: Path, machine: Any = CPU) -> dict[str, Any]:
    facts = examine(environ, base, machine).as_json()["sections"]["lightning"]
    assert all(fact["why"] for fact in facts.values())
    return {name: fact["value"] for name, fact in facts.items()}


@pytest.mark.parametrize("name", MODES)
def test_in_every_launch_mode_the_trainer_does_what_was_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in (next(MODES[name].processes()), [*MODES[name].processes()][-1]):
        environ = prepare(process.environ, tmp_path, process.config, monkeypatch)
        assert told(environ, tmp_path) == trainer_facts(monkeypatch)


@pytest.mark.parametrize(
    ("more", "machine"),
    [
        (ASKED, CPU),
        (ASKED, WITH_SMDDP),
        ({"PL_TRAINER_STRATEGY": "ddp"}, CPU),
        ({"PL_TRAINER_STRATEGY": "ddp_find_unused_parameters_true"}, CPU),
        ({"PL_TRAINER_STRATEGY": "smddp_find_unused_parameters_false"}, CPU),
        ({"PL_TRAINER_DEVICES": "8", "PL_TRAINER_NUM_NODES": "2"}, CPU),
        ({"PL_TRAINER_ACCELERATOR": "cpu"}, MACHINE),
    ],
)
@pytest.mark.parametrize("mode", ["v2-none-2-hosts", "v2-torch_distributed-2-hosts", "v2-mpi-2-hosts"])
def test_with_arguments_from_the_environment_the_trainer_does_what_was_told(
    mode: str, more: dict[str, str], machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = next(MODES[mode].processes())
    environ = prepare({**process.environ, **more}, tmp_path, process.config, monkeypatch)
    found = Availability(version="2.6.0") if machine is WITH_SMDDP else Availability(problem="not here")
    monkeypatch.setattr("lightning_sagemaker.smddp.policy.probe", lambda: found)
    assert told(environ, tmp_path, machine) == trainer_facts(monkeypatch)


def test_a_process_that_lightning_started_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = next(MODES["v2-none-2-hosts"].processes())
    environ = started_by_lightning(process.environ, process.expected, 8, 3)
    environ = prepare(environ, tmp_path, process.config, monkeypatch)
    facts = told(environ, tmp_path)
    assert facts == trainer_facts(monkeypatch)
    assert facts["creates_processes_externally"] is True


def test_gpus_make_devices_and_nccl(in_job: Examine) -> None:
    lightning = in_job({}).as_json()["sections"]["lightning"]
    assert (lightning["devices"]["value"], lightning["world_size"]["value"]) == (8, 16)
    assert lightning["backend"]["value"] == "nccl"


def test_what_would_be_an_error_is_told_as_one(in_job: Examine) -> None:
    lightning = in_job({**TORCHRUN, "PL_TRAINER_NUM_NODES": "3"}).as_json()["sections"]["lightning"]
    assert lightning["num_nodes"]["value"] == 3
    assert "is an error" in lightning["num_nodes"]["why"]


@pytest.mark.parametrize(
    ("launcher", "environment"),
    [(TORCHRUN, "TorchElasticEnvironment"), (MPIRUN, "MPIEnvironment"), ({}, "LightningEnvironment")],
)
def test_without_the_plugin_stock_lightning_s_choice_is_told(
    in_job: Examine, launcher: dict[str, str], environment: str
) -> None:
    machine = with_import(MACHINE, "torch", **{**TORCH, "hooked": False})
    lightning = in_job(launcher, machine).as_json()["sections"]["lightning"]
    assert (lightning["cluster_environment"]["value"], lightning["num_nodes"]["value"]) == (environment, 1)


def test_without_torch_what_depends_on_it_is_unknown(in_job: Examine) -> None:
    machine = replace(MACHINE, imports={})
    lightning = in_job({}, machine).as_json()["sections"]["lightning"]
    assert lightning["cluster_environment"]["value"] is None
    assert "torch cannot be imported" in lightning["cluster_environment"]["why"]
