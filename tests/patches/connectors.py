"""Trainers and Fabrics of both distributions in a job that variables and files make, and no trace of it afterwards."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.job import FOREIGN_RANK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Job = Callable[..., None]
    Make = Callable[..., Any]

LOG = logging.getLogger("lightning_sagemaker")
HOSTS = ["algo-2", "algo-1"]  # the leader is often not algo-1
FOREIGN = (
    *("SM_", "SAGEMAKER", "SMDATAPARALLEL", "TRAINING_JOB", "LIGHTNING_SAGEMAKER", "TORCHELASTIC", "OMPI_", "PMIX"),
    *("SLURM", "LSB_", "JSM_", "GROUP_", "ROLE_", "MASTER_", "PL_", "LT_"),
)
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")
LAUNCHERS = ("torchrun", "mpirun", "smddprun", "custom")
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Distribution:
    """One of the two distributions, by the names of its packages."""

    def __init__(self, pytorch: str, fabric: str) -> None:
        self.pytorch = pytorch
        self.fabric = fabric

    def get(self, part: str, path: str) -> Any:
        """``get("pytorch", "strategies.DDPStrategy")``."""
        module, _, name = f"{getattr(self, part)}.{path}".rpartition(".")
        return getattr(importlib.import_module(module), name)


DISTRIBUTIONS = {
    "lightning": Distribution("lightning.pytorch", "lightning.fabric"),
    "pytorch_lightning": Distribution("pytorch_lightning", "lightning_fabric"),
}


@pytest.fixture(params=list(DISTRIBUTIONS))
def distribution(request: pytest.FixtureRequest) -> Distribution:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"the distribution `{request.param}` is not installed")
    return DISTRIBUTIONS[request.param]


@pytest.fixture(params=["Trainer", "Fabric"])
def part(request: pytest.FixtureRequest) -> str:
    return "pytorch" if request.param == "Trainer" else "fabric"


@pytest.fixture
def make(distribution: Distribution, part: str) -> Make:
    """Make a Trainer or a Fabric and give back its connector, of whose parts both are made."""

    def make(**arguments: Any) -> Any:
        if part == "pytorch":
            return distribution.get("pytorch", "Trainer")(**QUIET, **arguments)._accelerator_connector
        return distribution.get("fabric", "Fabric")(**arguments)._connector

    return make


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No trace of a job or launcher at first, and none left for the next test."""
    for name in tuple(os.environ):
        if name.startswith(FOREIGN) or name in RANKS:
            monkeypatch.delenv(name)
    monkeypatch.setenv(FOREIGN_RANK, "")  # is put back in the end
    utilities = importlib.import_module("lightning_utilities.core.rank_zero")
    monkeypatch.setattr(utilities.rank_zero_only, "rank", 0, raising=False)  # strategies set it at construction
    for package in ("lightning", "lightning_fabric"):
        if importlib.util.find_spec(package) is not None:  # its detection starts MPI in this process
            name = f"{package}.fabric" if package == "lightning" else package
            module = importlib.import_module(f"{name}.plugins.environments.mpi")
            monkeypatch.setattr(module.MPIEnvironment, "detect", staticmethod(lambda: False))
    level, handlers, propagate = LOG.level, LOG.handlers[:], LOG.propagate
    yield
    LOG.setLevel(level)
    LOG.handlers[:], LOG.propagate = handlers, propagate


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Job:
    """Make this process one of a SageMaker training job."""

    def job(launcher: str = "torchrun", *, hosts: int = 2, per_host: int = 2, rank: int = 0, gpus: int = 0) -> None:
        names = [*HOSTS, *(f"algo-{number}" for number in range(3, 2000))][:hosts]
        node_rank, local_rank = divmod(rank, per_host)
        size = hosts * per_host
        config = tmp_path / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "resourceconfig.json").write_text(json.dumps({"current_host": names[node_rank], "hosts": names}))
        mpirun: dict[str, object] = {
            "OMPI_COMM_WORLD_RANK": rank,
            "OMPI_COMM_WORLD_SIZE": size,
            "OMPI_COMM_WORLD_LOCAL_RANK": local_rank,
            "OMPI_COMM_WORLD_LOCAL_SIZE": per_host,
        }
        ranks: dict[str, object] = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": local_rank}
        torchrun = ranks | {"LOCAL_WORLD_SIZE": per_host, "GROUP_RANK": node_rank, "GROUP_WORLD_SIZE": hosts}
        by_launcher: dict[str, dict[str, object]] = {
            "none": {},
            "lightning": {"LOCAL_RANK": local_rank, "WORLD_SIZE": size, "NODE_RANK": node_rank},
            "torchrun": torchrun | {"TORCHELASTIC_RUN_ID": "none"},
            "mpirun": mpirun,
            "smddprun": mpirun | ranks | {"SMDATAPARALLEL_USE_HOMOGENEOUS": 1},
            "custom": torchrun,
        }
        variables = {
            **by_launcher[launcher],
            "MASTER_ADDR": names[0],
            "MASTER_PORT": 7777,
            "SM_NUM_GPUS": gpus,
            "SM_HOSTS": json.dumps(names),
        }
        variables |= {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": tmp_path}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return job


@pytest.fixture
def see_gpus(monkeypatch: pytest.MonkeyPatch, distribution: Distribution) -> Callable[[int], None]:
    """Have Lightning see so many GPUs, as its own tests do."""

    def see_gpus(count: int) -> None:
        for package in (distribution.pytorch, distribution.fabric):
            module = importlib.import_module(f"{package}.accelerators.cuda")
            monkeypatch.setattr(module, "num_cuda_devices", lambda: count)

    return see_gpus


def strategy_name(connector: Any) -> str:
    return type(connector.strategy).__name__
