"""What a job tells its processes by variables, files and parents: docs/aws-assumptions.md."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from facts import efa_devices

from lightning_sagemaker.instances import instance
from lightning_sagemaker.job import base_dir

if TYPE_CHECKING:
    from conftest import Gather
    from ranks import Ranks

needs = pytest.mark.needs
CONFIG = base_dir(os.environ) / "input" / "config"
SHELLS = ("bash", "sh", "dash", "start_with_right")  # Linux cuts a command's name after 15 characters


def test_every_process_knows_that_it_is_in_a_training_job(gather: Gather) -> None:
    marks = ("TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "SM_TRAINING_ENV")
    for rank, found in gather(lambda: [name for name in marks if os.environ.get(name)]).items():
        assert found, rank


def test_every_process_reads_one_world_and_another_place_in_it(gather: Gather, ranks: Ranks) -> None:
    job = ranks.job
    seen = gather(
        lambda: {
            "world": [job.launcher, job.num_nodes, job.world_size, job.main_address, job.main_port],
            "place": [job.node_rank, job.local_rank],
        }
    )
    worlds = {str(each["world"]) for each in seen.values()}
    assert len(worlds) == 1, worlds
    assert len({str(each["place"]) for each in seen.values()}) == len(seen)


@needs("smddprun")
def test_smddprun_sets_rank_local_rank_and_world_size(gather: Gather) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    for rank, missing in gather(lambda: [name for name in names if name not in os.environ]).items():
        assert missing == [], rank


@needs("mpirun")
def test_ranks_that_another_launcher_sets_equal_open_mpis(gather: Gather) -> None:
    same = {
        "OMPI_COMM_WORLD_RANK": ("RANK", "SMDATAPARALLEL_WORLD_RANK"),
        "OMPI_COMM_WORLD_LOCAL_RANK": ("LOCAL_RANK", "SMDATAPARALLEL_LOCAL_RANK"),
        "OMPI_COMM_WORLD_SIZE": ("WORLD_SIZE", "SMDATAPARALLEL_WORLD_SIZE"),
        "OMPI_COMM_WORLD_LOCAL_SIZE": ("LOCAL_WORLD_SIZE",),
    }

    def look() -> dict[str, list[str]]:
        pairs = [(name, theirs) for name, others in same.items() for theirs in others if theirs in os.environ]
        return {f"{name}, {theirs}": [os.environ[name], os.environ[theirs]] for name, theirs in pairs}

    seen = gather(look)
    if not any(seen.values()):
        pytest.skip("needs another launcher under mpirun, as smddprun")
    for rank, pairs in seen.items():
        assert {names: values for names, values in pairs.items() if values[0] != values[1]} == {}, rank


@needs("mpirun", "two hosts")
def test_mpirun_fills_host_after_host(gather: Gather, ranks: Ranks) -> None:
    def look() -> list[Any]:
        number = {name: int(os.environ[f"OMPI_COMM_WORLD_{name}"]) for name in ("RANK", "LOCAL_SIZE")}
        return [ranks.job.current_host, number["RANK"] // number["LOCAL_SIZE"]]

    places = {tuple(place) for place in gather(look).values()}
    assert len(places) == len({host for host, _ in places}) == len({index for _, index in places}), places


def _resource_config() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((CONFIG / "resourceconfig.json").read_text(encoding="utf-8"))
    return content


@needs("two hosts")
def test_every_hosts_resourceconfig_json_has_the_same_order_of_hosts(gather: Gather) -> None:
    def look() -> list[Any]:
        content = _resource_config()
        groups = content.get("instance_groups") or []
        return [content["hosts"], {group.get("instance_group_name"): group.get("hosts") for group in groups}]

    orders = {str(lists) for lists in gather(look).values()}
    assert len(orders) == 1, orders


@needs("two hosts")
def test_resourceconfig_json_is_each_hosts_own(gather: Gather, ranks: Ranks) -> None:
    def variable() -> Any:
        """Whether SM_RESOURCE_CONFIG arrives; the package does not believe it, so either is right."""
        try:
            content = json.loads(os.environ.get("SM_RESOURCE_CONFIG", "null"))
        except ValueError as error:
            return f"damaged: {error}"
        own = _resource_config()
        return content and sorted(name for name in own.keys() | content if own.get(name) != content.get(name))

    seen = gather(
        lambda: {
            "file": _resource_config()["current_host"],
            "host calls itself": socket.gethostname(),
            "other in the variable": variable(),
        }
    )
    assert len({each["file"] for each in seen.values()}) == ranks.job.num_nodes
    for each in seen.values():
        own = each["host calls itself"]
        assert not own.startswith("algo-") or own == each["file"]  # elsewhere a container has another name


def test_checkpointconfig_json_names_the_folder_of_checkpoints_or_is_absent(gather: Gather) -> None:
    def look() -> dict[str, Any] | None:
        path = CONFIG / "checkpointconfig.json"
        if not path.is_file():
            return None
        folder = json.loads(path.read_text(encoding="utf-8")).get("LocalPath")
        return {"LocalPath": folder, "is there": bool(folder) and Path(folder).is_dir()}

    for rank, found in gather(look).items():
        assert found is None or found["is there"], rank


@needs("real hosts")
def test_sigterm_stops_at_process_1_a_shell(gather: Gather) -> None:
    def look() -> list[list[Any]]:
        """Parents up to process 1: id, command's name, whether it has a handler for SIGTERM."""
        parents, pid = [], os.getppid()
        while pid > 0:
            lines = Path("/proc", str(pid), "status").read_text(encoding="utf-8").splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            caught = int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1
            parents.append([pid, status["Name"], bool(caught)])
            pid = int(status["PPid"])
        return parents

    for parents in gather(look).values():
        pid, name, handles = parents[-1]
        assert (pid, name.startswith(SHELLS), handles) == (1, True, False), parents


@needs("real hosts", "a GPU")
def test_the_instance_has_the_gpus_and_the_efa_of_this_packages_table(gather: Gather, ranks: Ranks) -> None:
    known = instance(ranks.job.instance_type or "")
    seen = gather(lambda: [torch.cuda.device_count(), bool(efa_devices())])
    if known is None:
        pytest.skip(f"needs an instance type that the table has; this is {ranks.job.instance_type}")
    for rank, found in seen.items():
        assert found == [known.gpus, known.efa], rank
