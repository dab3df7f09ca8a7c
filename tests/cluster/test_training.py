"""The digits example, to its end, on test hosts, started as SageMaker's containers start it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from .launch import MODES, REPOSITORY, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import Cluster

DIGITS = REPOSITORY / "examples" / "digits" / "train.py"
# LIGHTNING_SAGEMAKER_FULL=1 adds what differs in numbers only.
FOUR = ("mpi",) if os.environ.get("LIGHTNING_SAGEMAKER_FULL") != "1" else tuple(MODES)


def train(cluster: Cluster, mode: str, processes: int) -> None:
    job = Job(cluster, mode, DIGITS, {"epochs": 1}, processes=processes).start()
    assert set(job.wait(200).values()) == {0}, job.text
    assert f"world size: {processes * len(cluster.hosts)}" in job.text, job.text
    assert f"ranks per host: {processes}" in job.text
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
