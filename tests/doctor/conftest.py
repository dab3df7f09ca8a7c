"""Machines that do not depend on the one that the tests run on, and reports about made-up jobs on them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.doctor.report import examine
from lightning_sagemaker.doctor.situation import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lightning_sagemaker.doctor.report import Report
    from lightning_sagemaker.findings import Finding

    Examine = Callable[..., Report]

TORCH = {"version": "2.7.1+cu128", "cuda": "12.8", "nccl": "2.26.2", "gpus": 8, "autoloads": True, "hooked": True}
TRAINER = {
    "cluster_environment": "SageMakerEnvironment",
    "num_nodes": 2,
    "devices": 8,
    "world_size": 16,
    "creates_processes_externally": True,
    "strategy": "DDPStrategy",
    "backend": "nccl",
}
MACHINE = Machine(
    versions={"python": "3.12.10", "lightning-sagemaker": "0.1.0", "torch": "2.7.1+cu128", "mpi4py": "4.1.0"},
    imports={
        "torch": TORCH,
        "lightning.pytorch": {"version": "2.6.6"},
        "pytorch_lightning": {"absent": True},
        "smddp": {"version": None, "problem": "the SMDDP library is not installed"},
        "trainer": {"facts": TRAINER},
        "fabric": {"facts": TRAINER},
    },
    driver_gpus=("NVIDIA A100-SXM4-40GB",) * 8,
    efa_devices=("rdmap16s27", "rdmap32s27", "rdmap144s27", "rdmap160s27"),
    shared_memory=600 * 2**30,
    interfaces=("lo", "eth0"),
    checkpoint_folder="/opt/ml/checkpoints",
)
CPU = replace(MACHINE, imports={**MACHINE.imports, "torch": {**TORCH, "gpus": 0}}, driver_gpus=None, efa_devices=())
HOSTS = ("algo-1", "algo-2")
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "8",
    "WORLD_SIZE": "16",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "8",
    "MASTER_ADDR": "algo-1",
    "FI_PROVIDER": "efa",
}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "8",
    "OMPI_COMM_WORLD_SIZE": "16",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "8",
    "FI_PROVIDER": "efa",
}


def with_import(machine: Machine, module: str, **found: Any) -> Machine:
    """The machine with another answer about one import."""
    return replace(machine, imports={**machine.imports, module: found})


def of_kind(report: Report, name: str) -> list[Finding]:
    """The findings of one name."""
    return [finding for finding in report.findings if finding.name == name]


@pytest.fixture
def in_job(tmp_path: Path) -> Examine:
    """Examine a process of a job on two p4d hosts, seen from the second one."""

    def in_job(
        environ: Mapping[str, str] | None = None, machine: Machine = MACHINE, config: Any = None, **changes: Any
    ) -> Report:
        resources = {
            "current_host": HOSTS[1],
            "hosts": list(HOSTS),
            "current_instance_type": "ml.p4d.24xlarge",
            "network_interface_name": "eth0",
            **changes,
        }
        folder = tmp_path / "input" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(resources) if config is None else config
        (folder / "resourceconfig.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        marks = {"TRAINING_JOB_NAME": "digits", "SM_NUM_GPUS": "8", "SM_HOSTS": json.dumps(HOSTS)}
        return examine({**marks, **(TORCHRUN if environ is None else environ)}, tmp_path, machine)

    return in_job
