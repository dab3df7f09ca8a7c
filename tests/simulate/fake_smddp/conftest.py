"""Worlds of real processes with the fake SMDDP on their path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lightning_sagemaker.simulate
from lightning_sagemaker.simulate.container import INTERFACE, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FAKE_SMDDP = Path(lightning_sagemaker.simulate.__file__).parent / "fake_smddp"
SCRIPTS = Path(__file__).parent
FOREIGN = ("SM_", "SAGEMAKER_", "SMDATAPARALLEL_", "OMPI_", "TORCHELASTIC_", "LIGHTNING_SAGEMAKER_")
LOG = "LIGHTNING_SAGEMAKER_FAKE_SMDDP_LOG"


@dataclass(frozen=True)
class World:
    """What the ranks of one run left behind; index: the rank."""

    results: list[Any]
    logs: list[list[dict[str, Any]]]
    errors: list[str]
    codes: list[int]
    files: list[str]


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **clean,
        "PYTHONPATH": str(FAKE_SMDDP),
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # stock Lightning, without what this package does to it
        **more,
    }


def free_ports(count: int) -> list[str]:
    found: set[str] = set()
    while len(found) < count:
        found.add(str(free_port()))
    return [*found]


def finish(commands: Sequence[tuple[list[str], Mapping[str, str]]], folder: Path) -> tuple[list[str], list[int]]:
    """What the processes wrote to stderr, and their exit codes; who waits for one that failed is ended soon."""
    said = [tempfile.TemporaryFile("w+") for _ in commands]  # noqa: SIM115 - closed below
    processes = [
        subprocess.Popen(command, env=dict(environ), cwd=folder, stderr=file)
        for (command, environ), file in zip(commands, said, strict=True)
    ]
    until = time.monotonic() + 280
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            if any(process.returncode for process in processes):
                until = min(until, time.monotonic() + 20)
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    errors = []
    for file in said:
        with file:
            file.seek(0)
            errors.append(file.read())
    return errors, [process.returncode for process in processes]


def run_world(folder: Path, script: str, size: int, variables: Mapping[str, str], *, torchrun: bool) -> World:
    program, logs = str(SCRIPTS / f"{script}.py"), folder / "logs" / "all"
    shared = environment(**{LOG: str(logs), **variables})
    if torchrun:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
        commands = [([sys.executable, *launcher, program, str(folder)], shared)]
    else:
        port, *more = free_ports(4)
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PORTS": " ".join(more), "WORLD_SIZE": str(size)}
        ranks = [str(rank) for rank in range(size)]
        commands = [
            ([sys.executable, program, str(folder), rank, str(size)], {**shared, "RANK": rank, "LOCAL_RANK": rank})
            for rank in ranks
        ]
    errors, codes = finish(commands, folder)
    assert not any(codes), "\n".join(errors)
    return World(
        [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(size)],
        [
            [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for path in sorted(logs.glob("rank-*.jsonl"))
        ],
        errors,
        codes,
        sorted(path.name for path in folder.iterdir()),
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    """Each world runs once, whichever test asks for it first."""
    known: dict[object, World] = {}

    def run(script: str, size: int = 2, *, torchrun: bool = False, **variables: str) -> World:
        key = (script, size, torchrun, *sorted(variables.items()))
        if key not in known:
            known[key] = run_world(tmp_path_factory.mktemp(script), script, size, variables, torchrun=torchrun)
        return known[key]

    return run


@pytest.fixture(scope="session")
def mpirun(world: Callable[..., World]) -> World:
    """Two ranks of mpirun ask for what SMDDP does not do."""
    return world("limits", OMPI_COMM_WORLD_SIZE="2")


@pytest.fixture(scope="session")
def mpirun_with_option(world: Callable[..., World]) -> World:
    """The same with one rank, the AllGather side on, and no log."""
    return world("limits", 1, OMPI_COMM_WORLD_SIZE="1", SMDATAPARALLEL_OPTIMIZE_SDP="true", **{LOG: ""})


@pytest.fixture(scope="session")
def fake_smddp() -> Path:
    """The folder that simulated workers have on their path."""
    return FAKE_SMDDP


@pytest.fixture(scope="session")
def clean_environment() -> Callable[..., dict[str, str]]:
    """Makes the environment of a process with the fake SMDDP, and without anybody's world."""
    return environment
