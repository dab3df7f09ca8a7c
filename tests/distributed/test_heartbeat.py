"""Ranks that go silent in real trainings, and long work that is no silence."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker import processes
from lightning_sagemaker.distributed import heartbeat
from lightning_sagemaker.distributed.heartbeat import Heartbeat
from lightning_sagemaker.distributed.peers import Hosts, Siblings
from lightning_sagemaker.distributed.store import TCPStore, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker import SageMakerJob

    Caplog = pytest.LogCaptureFixture

STEADY = Path(__file__).parents[1] / "programs" / "steady.py"
LIMIT = 10  # seconds


class Training:
    """A simulated job of two processes on each host that trains until it is told otherwise."""

    def __init__(self, folder: Path, distribution: str, *arguments: str, limit: float = LIMIT, hosts: int = 2) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", str(hosts)]
        command += ["--verbose", "--work-dir", tempfile.mkdtemp(dir=folder)]
        per_host = "1" if "--start-method" in arguments else "2"  # Lightning starts the others
        command += ["--processes-per-host", per_host, "--distribution", distribution]
        command += ["--env", f"LIGHTNING_SAGEMAKER_HEARTBEAT={limit}", str(STEADY), "--", "--folder", str(folder)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def pid(self, rank: int) -> int:
        """Process of a rank, once it trains."""
        path, deadline = self.folder / f"rank-{rank}", time.monotonic() + 120
        while not path.exists() or not path.read_text():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return int(path.read_text())

    def end(self) -> str:
        """What it printed until its end."""
        return self.process.communicate(timeout=120)[0]

    def failures(self, text: str) -> dict[str, str]:
        """Failure file of each host."""
        kept = Path(re.search(r"files kept in (\S+)", text)[1])  # type: ignore[index]
        try:
            return {path.parts[-4]: path.read_text() for path in kept.glob("*/ml/output/failure")}
        finally:
            shutil.rmtree(kept)


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., Training]]:
    trainings: list[Training] = []

    def train(distribution: str, *arguments: str, limit: float = LIMIT, hosts: int = 2) -> Training:
        trainings.append(Training(tmp_path, distribution, *arguments, limit=limit, hosts=hosts))
        return trainings[-1]

    yield train
    for training in trainings:
        for path in tmp_path.glob("rank-*"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGCONT)
        training.process.terminate()
        training.process.wait(60)


def test_a_stopped_rank_is_named_with_its_step_and_ends_the_job(train: Callable[..., Training]) -> None:
    training = train("torch_distributed", "--steps", "100000", "--pause", "0.05")
    pid = training.pid(3)
    time.sleep(2)
    os.kill(pid, signal.SIGSTOP)
    text = training.end()
    named = re.search(
        rf"Rank 3 on (algo-[12]) \(process {pid}\) has been stopped by SIGSTOP or a debugger for \d+ s"
        r" \(at step [1-9]\d*\)\. The others wait for it in their next collective\. The job ends after 10 s",
        text,
    )
    assert named, text
    assert training.process.returncode != 0
    failures = training.failures(text)
    assert failures[named[1]].startswith(f"RuntimeError: Rank 3 on {named[1]} (process {pid})")
    # The other host's ranks lose their connections, or are told to end.
    assert all(f"Rank 3 on {named[1]} (process {pid}) has been stopped" in failure for failure in failures.values()), (
        failures
    )


def test_a_stopped_rank_of_a_single_host_is_named_too(train: Callable[..., Training]) -> None:
    training = train("torch_distributed", "--steps", "100000", "--pause", "0.05", hosts=1)
    pid = training.pid(1)
    time.sleep(2)
    os.kill(pid, signal.SIGSTOP)
    text = training.end()
    assert f"Rank 1 on algo-1 (process {pid}) has been stopped by SIGSTOP or a debugger" in text
    assert "has not reported" not in text
    assert training.failures(text)["algo-1"].startswith(f"RuntimeError: Rank 1 on algo-1 (process {pid})")


def test_steps_and_work_after_the_training_that_take_longer_than_the_limit_are_no_silence(
    train: Callable[..., Training],
) -> None:
    training = train("none", "--steps", "2", "--pause", "4", "--linger", "6", limit=3)
    text = training.end()
    assert training.process.returncode == 0, text
    assert "silent" not in text
    assert "The others wait" not in text


@pytest.mark.parametrize("when", ["before it has told its number", "while it trains"])
def test_a_forked_rank_that_is_killed_is_named_and_waited_for_by_nobody(
    train: Callable[..., Training], when: str
) -> None:
    early = ["--kill-early", "1"] if when.startswith("before") else []
    training = train("none", "--steps", "100000", "--pause", "0.05", "--start-method", "fork", *early)
    if not early:
        os.kill(training.pid(1), signal.SIGKILL)
    text = training.end()
    assert training.process.returncode == 1, text
    failures = training.failures(text)  # the job's end may come before the other host has said anything
    named = re.compile(r"RuntimeError: rank 1 on algo-[12] \(process \d+\) ended without an exception")
    assert any(named.match(failure) for failure in failures.values()), failures
    assert all(named.match(failure) or "onnection" in failure for failure in failures.values()), failures


def test_an_exception_of_a_forked_rank_is_reported_with_its_host_rank_and_place(train: Callable[..., Training]) -> None:
    training = train("none", "--steps", "100000", "--start-method", "fork", "--fail", "3", "2")
    text = training.end()
    assert training.process.returncode == 1, text
    first = [failure for failure in training.failures(text).values() if failure.startswith("KeyError")]
    told = r"KeyError: \"the column 'age' is missing\"\n\[algo-[12], rank 3\]\n  \S+steady.py:\d+ in training_step"
    assert re.match(told, first[0]), text


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def job(make_job: Callable[..., SageMakerJob]) -> SageMakerJob:
    return make_job(current_host="algo-2", node_rank=0)


@pytest.fixture
def start(
    job: SageMakerJob,
    ended: list[int],  # noqa: ARG001 - it waits until the threads have ended
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Heartbeat]]:
    """Start heartbeats that are stopped in the end."""
    started: list[Heartbeat] = []
    monkeypatch.setattr(heartbeat, "_progress", lambda: (None, True))  # of no Trainer of another test

    def start(limit: float, sibling: int | None = None, hosts: Hosts | None = None) -> Heartbeat:
        told, ranks = HashStore(), [] if sibling is None else [1]
        if sibling:  # 0 has not told it
            write(told, "process/1", sibling, str(processes.start_of(sibling)))
        started.append(Heartbeat(job, Siblings(told, ranks), hosts, limit))
        return started[-1]

    yield start
    for beat in started:
        beat.stop()


def wait_for_line(caplog: pytest.LogCaptureFixture, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.02)


def test_a_stopped_process_that_goes_on_in_time_is_named_and_ends_nothing(
    start: Callable[..., Heartbeat], sleeper: int, ended: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(sleeper, signal.SIGSTOP)
    start(3, sleeper)
    wait_for_line(caplog, f"Rank 1 on algo-2 (process {sleeper}) has been stopped")
    os.kill(sleeper, signal.SIGCONT)
    time.sleep(4)
    assert ended == []
    assert not processes.has_ended(sleeper, processes.start_of(sleeper))


def test_a_process_that_has_ended_explains_a_lost_connection(start: Callable[..., Heartbeat], sleeper: int) -> None:
    beat = start(60, sleeper)
    while beat._siblings.missing():
        time.sleep(0.01)
    assert beat.explain_lost_connection() == ""
    os.kill(sleeper, signal.SIGKILL)
    while not processes.has_ended(sleeper, processes.start_of(sleeper)):
        time.sleep(0.01)
    assert beat.explain_lost_connection().startswith(
        f"RuntimeError: rank 1 on algo-2 (process {sleeper}) ended without an exception. Usual cause: the system killed"
    )


def test_a_rank_that_never_tells_its_number_is_named_and_waited_for_by_nobody(
    start: Callable[..., Heartbeat], ended: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """It was killed before, or its heartbeat is off: where ranks waited for each other's numbers, spawn hung."""
    start(1.5, 0)
    wait_for_line(caplog, "Rank 1 on algo-2 has not reported in the ")
    assert ended == []


def test_time_in_which_the_observer_did_not_run_counts_for_nobody(
    start: Callable[..., Heartbeat], hosts: Hosts, next_host: Hosts, ended: list[int], caplog: Caplog
) -> None:
    next_host.exchange(0.0, "at step 1")
    start(10, hosts=hosts)  # 5 s are named
    while hosts.heard is None:
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(11)  # holds Python's lock, as a C extension may
    heard = {hosts.heard}
    while len(heard) < 3:  # the observer has looked since, and told the time again
        next_host.exchange(0.0, "at step 1")
        heard.add(hosts.heard)
        time.sleep(0.05)
    assert ended == []
    assert "silent" not in caplog.text


@pytest.fixture
def next_host(job: SageMakerJob, store: TCPStore) -> Hosts:
    """The next host, which counts when the test says so."""
    return Hosts(replace(job, node_rank=1, current_host="algo-1"), store)


def connect(store: TCPStore) -> TCPStore:
    return TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20))


@pytest.fixture
def hosts(job: SageMakerJob, store: TCPStore) -> Hosts:
    return Hosts(job, connect(store))


def test_a_host_that_counts_no_more_is_named_and_ends_the_job_on_all_hosts(
    start: Callable[..., Heartbeat], hosts: Hosts, next_host: Hosts, ended: list[int], caplog: Caplog
) -> None:
    next_host.exchange(0.0, "at step 1")
    start(3, hosts=hosts)
    wait_for_line(caplog, "algo-1 has gone silent: algo-2 has received no heartbeat from it for ")
    wait_for_line(caplog, "The job ends now.")
    deadline = time.monotonic() + 20
    while not ended:
        assert time.monotonic() < deadline
    next_host.exchange(0.0, "at step 1")
    assert set(ended) == {1}
    assert next_host.ended.startswith("algo-1 has gone silent")


def test_silence_while_no_trainer_runs_is_none(  # noqa: PLR0917 - fixtures
    start: Callable[..., Heartbeat],
    hosts: Hosts,
    next_host: Hosts,
    ended: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: Caplog,
) -> None:
    progress = [(7, False)]
    monkeypatch.setattr(heartbeat, "_progress", lambda: progress[0])
    next_host.exchange(0.0, "at step 1")
    start(2, hosts=hosts)
    time.sleep(4)
    assert ended == []
    assert not caplog.records
    progress[0] = (7, True)  # the next one, which the others will not join
    wait_for_line(caplog, "The job ends now.")


def test_a_host_that_said_it_leaves_or_never_counted_is_no_silence(
    start: Callable[..., Heartbeat], hosts: Hosts, next_host: Hosts, ended: list[int], caplog: Caplog
) -> None:
    start(2, hosts=hosts)
    time.sleep(3)
    next_host.exchange(0.0, "at step 1")
    next_host.leave()
    time.sleep(3)
    assert ended == []
    assert "silent" not in caplog.text


@pytest.mark.parametrize(("hosts", "named"), [(2, 50), (300, 50), (1000, 95), (10_000, 105)])
def test_heartbeats_become_rarer_and_silence_is_still_named(hosts: int, named: float) -> None:
    between = heartbeat.interval(hosts, 300)
    requests = 3 + 1 / heartbeat.SECOND_EVERY  # of the first process of a host, and of the second
    assert requests * hosts / between <= 250 or hosts > 1000
    assert heartbeat.silence(between, 300) + 2 * between <= named


@pytest.mark.parametrize("limit", [1, 30, 60, 300])
@pytest.mark.parametrize("hosts", [2, 10_000])
def test_heartbeats_of_the_second_process_alone_are_no_silence(hosts: int, limit: float) -> None:
    between = heartbeat.interval(hosts, limit)
    assert (heartbeat.SECOND_EVERY + 1) * between < heartbeat.silence(between, limit)


def test_the_end_of_the_store_is_no_silence(
    start: Callable[..., Heartbeat], job: SageMakerJob, ended: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    start(2, hosts=Hosts(job, connect(store)))
    time.sleep(1)
    del store
    time.sleep(3)
    assert ended == []
    assert not caplog.records


@pytest.mark.parametrize("value", ["0", "0.0"])
def test_zero_switches_it_off(job: SageMakerJob, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_HEARTBEAT", value)
    heartbeat.start(replace(job, rank=0, world_size=4))  # which would need a process group
    assert heartbeat._current is None
