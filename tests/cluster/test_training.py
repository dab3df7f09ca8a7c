"""The digits example, to its end, on test hosts, started as SageMaker's containers start it."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from .launch import MODES, REPOSITORY, Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .hosts import Cluster

DIGITS = REPOSITORY / "examples" / "digits" / "train.py"
# LIGHTNING_SAGEMAKER_FULL=1 adds what differs in numbers only.
FOUR = ("mpi",) if os.environ.get("LIGHTNING_SAGEMAKER_FULL") != "1" else tuple(MODES)


RESUMING = """
import argparse
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
trainer = Trainer(accelerator="cpu", max_epochs=parser.parse_args().epochs, limit_train_batches=3, limit_val_batches=0,
                  logger=False, enable_progress_bar=False, enable_model_summary=False,
                  callbacks=[ModelCheckpoint(save_last=True)])
trainer.fit(BoringModel())
print(f"rank {trainer.global_rank} ended at step {trainer.global_step}")
"""


def train(cluster: Cluster, mode: str, processes: int) -> None:
    smddp = {"strategy": "smddp"} if MODES[mode].smddp else {}
    job = Job(cluster, mode, DIGITS, {"epochs": 1, **smddp}, processes=processes).start()
    assert set(job.wait(200).values()) == {0}, job.text
    assert f"world size: {processes * len(cluster.hosts)}" in job.text, job.text
    assert f"ranks per host: {processes}" in job.text
    assert ("distributed_backend=smddp" in job.text) == MODES[mode].smddp, job.text
    assert float(re.search(r"test accuracy: ([0-9.]+)", job.text)[1]) > 0.5  # type: ignore[index]
    assert not any(host.failure() for host in cluster.hosts.values())


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "v3-mpi"])
def test_two_hosts_of_two_processes_train_as_one_world(make_cluster: Callable[..., Cluster], mode: str) -> None:
    train(make_cluster(*("algo-2", "algo-1") if MODES[mode].sdk == "v2" else ("algo-1", "algo-2")), mode, 2)


@pytest.mark.parametrize("mode", [mode for mode in FOUR if mode != "v3-mpi"])
def test_four_hosts_of_one_process_train_as_one_world(make_cluster: Callable[..., Cluster], mode: str) -> None:
    train(make_cluster("algo-3", "algo-1", "algo-4", "algo-2"), mode, 1)


def test_the_world_of_one_host_that_v3_s_mpi_makes_is_refused_by_name(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("algo-1", "algo-2")
    job = Job(cluster, "v3-mpi", DIGITS, {"epochs": 1}).start()
    assert cluster["algo-1"].wait(200) != 0, job.text
    assert "ValueError: mpirun started 2 process(es) on 1 host(s)" in cluster["algo-1"].failure()


@pytest.mark.parametrize("mode", [mode for mode in FOUR if mode != "v3-mpi"] if len(FOUR) > 1 else ("none",))
def test_a_spot_restart_continues_on_every_host_from_what_rank_0_wrote(
    make_cluster: Callable[..., Cluster], tmp_path: Path, mode: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(RESUMING)
    first, second = make_cluster("algo-2", "algo-1"), make_cluster("algo-2", "algo-1")
    resume = {"LIGHTNING_SAGEMAKER_RESUME": "1"}
    before = Job(first, mode, script, {"epochs": 1}, processes=1, environ=resume).start()
    assert set(before.wait(120).values()) == {0}, before.text
    leader, other = before.world
    written = leader.ml / "checkpoints"
    assert sorted(path.name for path in written.rglob("*.ckpt")) == ["epoch=0-step=3.ckpt", "last.ckpt"]
    assert not any((other.ml / "checkpoints").iterdir())

    after = Job(second, mode, script, {"epochs": 3}, processes=1, environ=resume)
    for host in after.world:  # SageMaker copies the prefix in S3 to all
        shutil.copytree(written, host.ml / "checkpoints", dirs_exist_ok=True)
    assert set(after.start().wait(120).values()) == {0}, after.text
    assert all(f"rank {rank} ended at step 9" in after.text for rank in (0, 1)), after.text
    assert re.search("training continues from /opt/ml/checkpoints/.*/last.ckpt", after.text)
