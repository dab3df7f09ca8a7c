"""Hosts with disks of their own: what rank 0 wrote is loaded on all, or it is said who lacks it.

LIGHTNING_SAGEMAKER_GIGABYTES sets the size of the large checkpoint (4 for the proof).
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .launch import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import Cluster

SCRIPT = Path(__file__).with_name("own_disks.py")
LARGE = Path(__file__).with_name("large_file.py")
GIGABYTES = float(os.environ.get("LIGHTNING_SAGEMAKER_GIGABYTES", "0.3"))


@pytest.mark.parametrize(
    ("mode", "package", "strategy"),
    [("torch_distributed", "lightning.pytorch", "ddp"), ("smdistributed", "pytorch_lightning", "smddp")],
)
def test_each_rank_loads_what_rank_0_wrote(
    make_cluster: Callable[..., Cluster], mode: str, package: str, strategy: str
) -> None:
    cluster = make_cluster("algo-2", "algo-1")
    job = Job(cluster, mode, SCRIPT, {"package": package, "strategy": strategy}).start()
    assert set(job.wait(200).values()) == {0}, job.text
    data = [host.ml / "output" / "data" for host in cluster.hosts.values()]
    seen: dict[str, dict[int, Any]] = {}
    for path in (path for folder in data for path in folder.glob("seen-*")):
        for what, value in map(json.loads, path.read_text().splitlines()):
            seen.setdefault(what, {})[int(path.stem.partition("-")[2])] = value
    lines = "\n".join(path.read_text() for folder in data for path in folder.glob("log-*"))
    first, other = job.world[0].name, job.world[1].name

    def is_on_all(what: str, *texts: object) -> bool:
        values = [seen[what][rank] for rank in range(4)]
        return all(value == values[0] for value in values) and all(str(text) in str(values[0]) for text in texts)

    sent = re.findall(rf"{other} (lacks|had an older) /root/(\S+): {first} has sent it", lines)
    files = [name for _, name in sent]
    assert is_on_all("test"), job.text
    assert seen["test"] == seen["validate"] == seen["predict"] == seen["load_from_checkpoint"]
    assert files.count("training/epoch=0-step=3.ckpt") == 1, "once per host"
    assert is_on_all("last", "6")
    assert is_on_all("last again", "9")
    assert sent.count(("lacks", "training/last.ckpt")) == sent.count(("had an older", "training/last.ckpt")) == 1
    assert sum(".lr_find" in name for name in files) == 1
    assert "as rank 0 does; by itself it would have found none" in lines

    assert is_on_all("nowhere", "FileNotFoundError: The ranks cannot load /root/training/nowhere.ckpt")
    assert is_on_all("elsewhere", "FileNotFoundError: ", f"{first} lacks /root/training/elsewhere.ckpt")
    assert is_on_all("disk full", "FileNotFoundError: ", other, "401.6 kB, and 65.5 kB are free")
    left = seen["left on the full disk"]
    assert [left[rank] for rank in range(4)] == [["large.ckpt"], ["large.ckpt"], [], []]

    assert is_on_all("own copies", "none")
    assert is_on_all(
        "different", "ValueError: The ranks would continue from different checkpoints", "(step 3, epoch 1)"
    )
    assert is_on_all("different", f"but {other}, rank 3 from /root/training/second.ckpt (step 6, epoch 2)")
    assert is_on_all("different, in a test", "none")
    assert "The ranks load different checkpoints: rank 0 loads /root/training/kept.ckpt" in lines

    assert all(is_on_all(f"fabric {number}", number) for number in (1, 2, 3, 4))
    assert sent.count(("had an older", "training/raw.ckpt")) == sent.count(("had an older", "training/state.ckpt")) == 1
    assert list(map(seen["fabric, own files"].get, range(4))) == [0, 0, 2, 2], "a file of its own stays"
    assert seen["fabric, a part"] == {3: True}
    assert all("Checkpoint file not found" in text for text in seen["fabric, nowhere"].values())
    assert f"rank 0's host {first} lacks it too" in seen["fabric, nowhere"][2]
    assert not any([*seen["left by lr_find"].values(), *seen["left at the end"].values()])


def test_a_large_checkpoint_is_sent_in_little_memory(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("algo-1", "algo-2")
    job = Job(cluster, "none", LARGE, {"gigabytes": GIGABYTES}, processes=1).start()
    assert set(job.wait(60 + 60 * GIGABYTES).values()) == {0}, job.text
    told = [json.loads((cluster[host].ml / "output" / "figures.json").read_text()) for host in ("algo-1", "algo-2")]
    figures = {found["rank"]: found for found in told}
    print(json.dumps(figures))
    assert figures[0]["bytes"] == figures[1]["bytes"] > GIGABYTES * 1e9
    assert figures[0]["digest"] == figures[1]["digest"]
    assert max(found["peak_growth_mb"] for found in figures.values()) < 40


@pytest.mark.parametrize("killed", ["algo-1", "algo-2"])
def test_a_host_killed_while_a_checkpoint_is_sent_leaves_nothing_half(
    make_cluster: Callable[..., Cluster], killed: str
) -> None:
    cluster = make_cluster("algo-1", "algo-2")
    job = Job(cluster, "none", LARGE, {"gigabytes": GIGABYTES}, processes=1).start()
    folder = cluster["algo-2"].ml / "model"
    until = time.monotonic() + 60 + 60 * GIGABYTES
    while not any(path.stat().st_size > 1e7 for path in folder.glob(".*.part")):
        assert time.monotonic() < until, job.text
        assert cluster["algo-2"].code() is None, job.text
        time.sleep(0.002)
    cluster[killed].kill()
    other = "algo-2" if killed == "algo-1" else "algo-1"
    assert cluster[other].wait(60) != 0
    assert not (folder / "large.ckpt").exists()
    assert bool(list(folder.glob(".*.part"))) == (killed == "algo-2"), "what lives removes its temporary file"
    assert "FIGURES" not in job.text
