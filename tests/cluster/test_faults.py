"""What breaks between hosts: each is named soon, where people look, and ends the job on all hosts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import faults
from .launch import REPOSITORY, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from .hosts import Cluster

    MakeCluster = Callable[..., Cluster]

STEADY = REPOSITORY / "tests" / "programs" / "steady.py"
# By Lightning, by torchrun, by mpirun: all in each test with LIGHTNING_SAGEMAKER_FULL=1.
FULL = os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1"
LAUNCHED = ("none", "torch_distributed", "mpi")
BLOCKED = "gets no answer from"


def train(cluster: Cluster, mode: str, *, steps: int = 5, pause: float = 0.0, **environ: str) -> Job:
    folder = cluster.shared / "seen"
    folder.mkdir()
    arguments = {"folder": str(folder), "steps": steps, "pause": pause}
    return Job(cluster, mode, STEADY, arguments, environ=environ)


def await_training(job: Job) -> None:
    deadline = time.monotonic() + 120
    while len(list((job.cluster.shared / "seen").glob("step-*"))) < 2 * len(job.world):
        assert time.monotonic() < deadline, job.text
        assert all(host.code() is None for host in job.world), job.text
        time.sleep(0.1)


def process_of(job: Job, rank: int) -> psutil.Process:
    """Process of a rank on the machine; it wrote down the number that it has on its host."""
    seen = (job.cluster.shared / "seen" / f"rank-{rank}").read_text()
    for process in job.world[rank // 2].processes():
        numbers = Path(f"/proc/{process.pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()
        if numbers[-1] == seen:
            return process
    pytest.fail(f"rank {rank} is gone")


@pytest.mark.parametrize("mode", LAUNCHED if FULL else ("torch_distributed",))
def test_a_blocked_main_port_is_named_on_both_hosts_and_ends_the_job(make_cluster: MakeCluster, mode: str) -> None:
    job = train(make_cluster("algo-2", "algo-1"), mode, LIGHTNING_SAGEMAKER_REACHABILITY="12")
    leader, other = job.world
    faults.drop(leader, "tcp dport 7777")
    job.start()
    assert leader.wait(120) != 0, job.text
    said = f"{other.name} {BLOCKED} {leader.name} at {leader.name}:7777 (interface eth0)"
    assert said in leader.text, job.text
    assert said in leader.failure(), job.text
    if mode != "mpi":  # whose ranks all print on the leader; the other host's `train` outlives them by a minute
        assert other.wait(60) != 0
        assert said in other.text
        assert said in other.failure()


def test_blocked_peer_ports_are_named_although_the_main_port_is_open(make_cluster: MakeCluster) -> None:
    job = train(make_cluster("algo-2", "algo-1"), "torch_distributed", LIGHTNING_SAGEMAKER_REACHABILITY="10")
    leader, other = job.world
    faults.drop(leader, "ct state new tcp dport != 7777")
    faults.drop(other, "ct state new")
    assert 0 not in set(job.start().wait(120).values())
    assert "answers, so only some ports are open" in job.text, job.text
    assert all(BLOCKED in host.failure() for host in job.world)


def test_a_host_whose_name_and_process_come_late_is_waited_for_without_an_alarm(make_cluster: MakeCluster) -> None:
    job = train(make_cluster("algo-1", "algo-2"), "v3-torchrun")
    first, late = job.world
    first.knows({})
    job.start(first.name)
    time.sleep(20)
    first.knows({late.name: late.address})
    job.start(late.name)
    assert set(job.wait(120).values()) == {0}, job.text
    assert BLOCKED not in job.text


@pytest.mark.parametrize("mode", LAUNCHED if FULL else ("mpi", "torch_distributed"))
def test_a_killed_rank_ends_the_job_with_a_reason(make_cluster: MakeCluster, mode: str) -> None:
    job = train(make_cluster("algo-2", "algo-1"), mode, steps=100000, pause=0.02).start()
    await_training(job)
    process_of(job, 3).kill()
    leader, other = job.world
    assert leader.wait(60) != 0, job.text
    assert leader.failure()
    if mode != "mpi":
        assert other.wait(60) != 0, job.text
        assert other.failure()


@pytest.mark.parametrize("mode", LAUNCHED if FULL else ("none",))
def test_a_pulled_cable_is_named_and_ends_the_job_on_both_sides(make_cluster: MakeCluster, mode: str) -> None:
    cluster = make_cluster("algo-2", "algo-1")
    job = train(cluster, mode, steps=100000, pause=0.02, LIGHTNING_SAGEMAKER_HEARTBEAT="16").start()
    await_training(job)
    time.sleep(4)
    leader, other = job.world
    faults.pull_cable(other)
    assert leader.wait(100) != 0, job.text
    assert f"{other.name} has gone silent: {leader.name} has received no heartbeat from it" in leader.text, job.text
    assert f"{other.name} has gone silent" in leader.failure(), job.text
    if mode != "mpi":  # there the ranks of the other host print through the leader's mpirun
        assert other.wait(60) != 0
        assert f"{other.name} has received no answer from the store of rank 0" in other.text
        assert f"{other.name} has received no answer from the store of rank 0" in other.failure()


def test_lost_packets_and_a_slow_line_raise_no_alarm(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("algo-2", "algo-1")
    job = train(cluster, "torch_distributed", steps=20, LIGHTNING_SAGEMAKER_HEARTBEAT="10")
    for host in job.world:
        faults.lose(host, 1)
        faults.slow_down(host, "8mbit")
    assert set(job.start().wait(120).values()) == {0}, job.text
    for alarm in (BLOCKED, "silent", "is stopped"):
        assert alarm not in job.text
