"""Lines of docs/moving.md on addresses and devices, left in scripts, on test hosts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .launch import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import Cluster

    MakeCluster = Callable[..., Cluster]

SCRIPT = Path(__file__).with_name("glue.py")
DEVICES = """
import json, os
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

trainer = Trainer(accelerator="cpu", fast_dev_run=True, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(BoringModel())
place = [trainer.node_rank, trainer.local_rank, trainer.num_devices]
print("SEEN " + json.dumps([*place, os.environ["SM_NUM_GPUS"]]) + "\\n", end="", flush=True)
"""


def said(job: Job, word: str) -> list[list[object]]:
    """What ranks printed after a word, in order."""
    return sorted(json.loads(line.partition(word)[2]) for line in job.text.splitlines() if word in line)


@pytest.mark.parametrize("mode", ["none", "v3-none", "mpi"])
def test_the_first_host_for_the_main_address_trains_as_in_stock(make_cluster: MakeCluster, mode: str) -> None:
    """Without a launcher it leads. Under mpirun it does not here, and stock does not look at the variable."""
    found = []
    for arm in ({}, {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}):
        job = Job(make_cluster("algo-2", "algo-1"), mode, SCRIPT, {}, processes=1, environ=arm).start()
        assert set(job.wait(150).values()) == {0}, job.text
        found.append(said(job, "TRAINED "))
    assert [told[0] for told in found[0]] == [0, 1]
    assert found[0] == found[1]


def test_the_first_host_for_the_main_address_is_named_under_torchrun_where_another_one_leads(
    make_cluster: MakeCluster,
) -> None:
    limit = {"LIGHTNING_SAGEMAKER_REACHABILITY": "5"}  # stock waits for half an hour
    job = Job(make_cluster("algo-2", "algo-1"), "torch_distributed", SCRIPT, {}, processes=1, environ=limit).start()
    assert 0 not in job.wait(150).values(), job.text
    failures = [host.failure() for host in job.world]
    assert all(
        "finds no process listening at algo-1:7777, though torchrun's agents have connected" in text
        for text in failures
    ), failures


def test_the_number_of_gpus_is_the_leaders_under_mpirun_and_devices_are_the_launchers(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(DEVICES)
    cluster = make_cluster("algo-2", "algo-1")
    job = Job(cluster, "mpi", script, {}, processes=2)
    tool, other = cluster.shared / "tools" / "nvidia-smi", cluster["algo-1"].hostname
    tool.write_text(f"{tool.read_text()}\n[ $(hostname) != {other} ] || echo 'GPU 2: one more'\n")
    assert set(job.start().wait(150).values()) == {0}, job.text
    assert said(job, "SEEN ") == [[node, local, 2, "2"] for node in (0, 1) for local in (0, 1)]
