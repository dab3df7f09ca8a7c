"""What a process of the job sees without a process group: environment, files, names, ports, processes, versions."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.doctor.machine import SHARED_MEMORY, efa_devices
from lightning_sagemaker.doctor.masking import related
from lightning_sagemaker.job import base_dir
from lightning_sagemaker.probe import processes
from lightning_sagemaker.probe.guarded import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning_sagemaker.probe.place import Place

_RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    *("SMDATAPARALLEL_LOCAL_RANK", "SMDATAPARALLEL_WORLD_RANK", "SMDATAPARALLEL_WORLD_SIZE"),
)
_FAMILIES = ("FI_", "MASTER_", "NCCL_", "OMPI_", "PMIX_", "SM_", "SMDATAPARALLEL_", "TORCHELASTIC_")
_MARKS = ("TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "SM_TRAINING_ENV", "SAGEMAKER_JOB_NAME")
_DISTRIBUTIONS = (
    *("lightning-sagemaker", "torch", "mpi4py", "sagemaker-training", "sagemaker-pytorch-training"),
    "smdistributed-dataparallel",
)
_NAMES_LOOKED_UP = 16  # of a large job's hosts
_LOOK_UP = 15.0  # seconds


def looks(environ: Mapping[str, str], place: Place) -> dict[str, Callable[[], Any]]:
    """All looks by key, in the order in which they are taken.

    Args:
        environ: Environment of this process.
        place: Its place in the job.
    """
    config = base_dir(environ) / "input" / "config"
    return {
        "job": lambda: _job(place),
        "ranks": lambda: {name: environ[name] for name in _RANKS if name in environ},
        **{f"variables/{family}": functools.partial(_family, environ, family) for family in _FAMILIES},
        "marks": lambda: {name: bool(environ.get(name)) for name in _MARKS},
        "resource_config": lambda: _resource_config(config),
        "sm_resource_config": lambda: _sm_resource_config(environ, config),
        "checkpoint_config": lambda: _checkpoint_config(config),
        "names": lambda: _names(place),
        "interface": lambda: _interface(place),
        "port": lambda: _port(place),
        "processes": processes.ancestors,
        "shared_memory": lambda: shutil.disk_usage(SHARED_MEMORY).total,
        "software": _software,
    }


def _job(place: Place) -> dict[str, Any]:
    job = place.job
    if job is None:
        return {"problem": place.problem}
    names = ("sdk", "launcher", "num_nodes", "node_rank", "local_world_size", "local_rank", "rank", "world_size")
    further = ("main_address", "main_port", "current_host", "instance_type", "network_interface")
    return {name: getattr(job, name) for name in (*names, *further)}


def _family(environ: Mapping[str, str], family: str) -> dict[str, str | None]:
    """Variables of one family; values only where they may be printed."""
    shown = related(environ) if family not in ("OMPI_", "SM_") else {}  # by their names: OMPI_ alone fills a line
    return {name: shown.get(name) for name in sorted(environ) if name.startswith(family)}


def _resource_config(config: Path) -> dict[str, Any]:
    content = json.loads((config / "resourceconfig.json").read_text(encoding="utf-8"))
    groups = content.get("instance_groups") or []
    return {
        "current_host": content.get("current_host"),
        "hosts": content.get("hosts"),
        "groups": {group.get("instance_group_name"): group.get("hosts") for group in groups},
        "keys": sorted(content),
    }


def _sm_resource_config(environ: Mapping[str, str], config: Path) -> dict[str, Any]:
    text = environ.get("SM_RESOURCE_CONFIG")
    if text is None:
        return {"is": "absent"}
    content = json.loads((config / "resourceconfig.json").read_text(encoding="utf-8"))
    try:
        variable = json.loads(text)
    except ValueError as error:
        return {"is": "damaged", "how": str(error), "length": len(text)}
    differing = sorted(key for key in {*variable, *content} if variable.get(key) != content.get(key))
    return {"is": "different", "in": differing} if differing else {"is": "equal"}


def _checkpoint_config(config: Path) -> dict[str, Any]:
    path = config / "checkpointconfig.json"
    if not path.is_file():
        return {"present": False}
    local = json.loads(path.read_text(encoding="utf-8")).get("LocalPath")
    return {"present": True, "local_path": local, "folder": bool(local) and Path(local).is_dir()}


def _names(place: Place) -> dict[str, Any]:
    own = socket.gethostname()
    hosts = list(place.job.hosts if place.job else ())[:_NAMES_LOOKED_UP]
    wanted = {name: functools.partial(socket.getaddrinfo, name, None) for name in (own, place.address, *hosts)}
    answers = {name: guarded(look, _LOOK_UP) for name, look in wanted.items()}
    return {
        "own": own,
        "current_host": place.host,
        "main_address": place.address,
        "unknown": {name: answer for name, answer in answers.items() if isinstance(answer, dict)},
    }


def _interface(place: Place) -> dict[str, Any]:
    present = [name for _, name in socket.if_nameindex()]
    named = place.job.network_interface if place.job else None
    return {"named": named, "present": named in present, "all": present}


def _port(place: Place) -> dict[str, Any]:
    """Whether the port of the rendezvous can be listened on: asked by rank 0, whose host it is on."""
    if place.rank != 0:
        return {"asked": False}
    asked = {"asked": True, "port": place.port, "launcher": place.launcher}
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", place.port))
            trial.listen()
        except OSError as error:
            return {**asked, "free": False, "why": str(error), "holder": processes.listener(place.port)}
    return {**asked, "free": True}


def _software() -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # noqa: PERF203 - each by itself
            found[name] = None
    found["efa"] = list(efa_devices(Path("/sys/class/infiniband")))
    for name, command in {"libfabric": ["fi_info", "--version"], "mpirun": ["mpirun", "--version"]}.items():
        found[name] = _says(command)
    import torch

    found["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        found |= {"gpus": torch.cuda.device_count(), "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
    return found


def _says(command: list[str]) -> str | None:
    program = shutil.which(command[0]) or shutil.which(f"/opt/amazon/efa/bin/{command[0]}")
    if program is None:
        return None
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    return next(iter(done.stdout.splitlines()), None)
