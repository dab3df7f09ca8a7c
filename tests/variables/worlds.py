"""Processes of jobs of two hosts, in which the variables of the table are changed one by one, and what differs then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.simulate.container import free_port
from tests.job.launch_modes import MODES
from tests.variables.table import TORCH, VARIABLES, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.job.launch_modes import Process

Effects = dict[str, dict[str, set[str]]]  # by variable and column
LIMIT = 500  # seconds after which the looks hang
_ROWS = {
    "none": ("v2-none-2-hosts", "v3-none-2-hosts"),
    "torchrun": ("v2-torch_distributed-2-hosts",),
    "mpirun": ("v2-mpi-2-hosts", "v2-smddp-with-smddprun-2-hosts", "v3-mpi-repaired"),
    "custom": ("own-launcher",),
}
_DEEPSPEED = {"LOCAL_SIZE": "2", "CROSS_SIZE": "2", "CROSS_RANK": "1"}
_SLURM = {
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}
# Beside the four of a world; the others are no names that torch has.
_OF_TORCH = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "LOCAL_RANK", "NODE_RANK", "SM_MASTER_ADDR")
_WORLD = {"accelerator": "cpu", "devices": 2, "num_nodes": 2}  # what stock's glue says


def processes() -> Iterator[tuple[str, Process]]:
    """Columns and processes: two on each host, seen from the second host's last one, or its only one."""
    for column, names in _ROWS.items():
        for name in names:
            world = replace(MODES[name].worlds[0], processes=2, accelerators=(2, 0))
            yield column, replace(MODES[name], worlds=(world,)).process(world.hosts[1], int(column != "none"))


def environments(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The same as columns and environments; files lie below the folder."""
    for number, (column, process) in enumerate(processes()):
        config = folder / str(number) / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "resourceconfig.json").write_text(json.dumps(process.config))
        environ = {**process.environ, "SAGEMAKER_BASE_DIR": str(folder / str(number))}
        yield column, environ
        if column == "custom":
            yield column, environ | _DEEPSPEED
        if column == "none" and number == 0:
            yield "slurm", environ | _SLURM


def changed(environ: dict[str, str], variable: Variable) -> Iterator[tuple[str, dict[str, str]]]:
    """The environment with other values of a variable, and without it where it is there."""
    name = variable.name
    for value in variable.values:
        if value != environ.get(name):
            yield "other", environ | {name: value}
    if name in environ:
        yield "unset", {key: value for key, value in environ.items() if key != name}


def effects(folder: Path, arm: dict[str, str]) -> Effects:
    """What each variable decides in each column.

    Args:
        folder: For files.
        arm: Variables that decide whether the package is there.
    """
    looks: list[dict[str, Any]] = []
    keys: list[tuple[int, str, str, str]] = []  # number of the look it is held against, column, variable, change

    def add(column: str, environ: dict[str, str], by: str, arguments: dict[str, Any], rows: list[Variable]) -> None:
        base = len(looks)
        for name, change, changed_environ in [("", "", environ)] + [
            (row.name, change, other) for row in rows for change, other in changed(environ, row)
        ]:
            looks.append({"environ": {"PATH": os.defpath} | changed_environ, "by": by, "arguments": arguments})
            keys.append((base, column, name, change))

    for column, environ in environments(folder):
        add(column, environ, "Fabric", _WORLD, [row for row in VARIABLES if not row.by])
        if column == "none":
            for by in ("Fabric", "Trainer"):
                add(column, environ, by, {"accelerator": "cpu"}, [row for row in VARIABLES if row.by == by])
    world = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    base = len(looks)
    add(TORCH, world, "env://", {}, [row for row in VARIABLES if row.name in _OF_TORCH])
    for name in world:  # a world of one has no other values
        environ = {key: value for key, value in world.items() if key != name}
        looks.append({"environ": environ, "by": "env://", "arguments": {}})
        keys.append((base, TORCH, name, "unset"))
    out = folder / "seen.json"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("look.py")), str(out)],
        input=json.dumps(looks),
        env={name: value for name, value in os.environ.items() if not name.startswith("LIGHTNING_SAGEMAKER")} | arm,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(out.read_text())
    found: Effects = defaultdict(lambda: defaultdict(set))
    for number, (base, column, name, change) in enumerate(keys):
        if not name:
            assert "error" not in seen[number], seen[number]
        else:
            found[name][column] |= _differences(seen[base], seen[number], change)
    return found


def _differences(base: dict[str, Any], found: dict[str, Any], change: str) -> set[str]:
    if "error" in found:
        return {f"error if {change}"}
    return {key for key in base.keys() & found.keys() if base[key] != found[key]} if change == "other" else set()
