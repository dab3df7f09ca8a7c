"""Watchers whose own failure ends nothing, and stored values that no rank wrote."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.checkpoint import checkpoint_folder
from lightning_sagemaker.distributed import heartbeat, participants, sigterm
from lightning_sagemaker.distributed.heartbeat import Heartbeat
from lightning_sagemaker.distributed.participants import Participants
from lightning_sagemaker.distributed.peers import Hosts, Siblings
from lightning_sagemaker.distributed.sigterm import StopAgreement
from lightning_sagemaker.distributed.store import (
    LONGEST,
    PrefixStore,
    TCPStore,
    decode,
    encode,
    own_connection,
    read,
    write_first,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lightning_sagemaker import SageMakerJob

    MakeJob = Callable[..., SageMakerJob]

FULL = os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1"
LINE = "algo-2 no longer watches for processes that go silent. The training continues. Cause: "
MARK = b"lightning_sagemaker/1 "
STRANGE = [
    b"",
    b"\xff\xfe\x00\xc3",
    b"\0" * 100,
    b"9" * 5000,
    b"-1",
    b"1 1",
    b"x" * 1_000_000,
    b"null",
    MARK,
    MARK + b"[" * 60_000,
    MARK + b'["\\u0000", 1]',
    MARK + b"[1e999]",
    MARK + b'["the end\\u001b[2J"]',
    MARK + b"[-1]",
    MARK + b"[" + b"9" * 5000 + b"]",
    MARK + b'{"0": 1}',
    b"algo-2, rank 0",
    *(random.Random(seed).randbytes(seed % 700) for seed in range(10_000 if FULL else 200)),  # noqa: S311 - no secret
]


def until(happens: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def connect(store: TCPStore) -> TCPStore:
    return TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20))


@pytest.fixture
def start(
    make_job: MakeJob,
    store: TCPStore,
    ended: list[int],  # noqa: ARG001 - it waits until the threads have ended
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], Heartbeat]]:
    """Start the heartbeat of the first host; what it tells of the step can be changed."""
    started: list[Heartbeat] = []
    monkeypatch.setattr(heartbeat, "_progress", lambda: (None, True))  # of no Trainer of another test

    def start() -> Heartbeat:
        job = make_job(current_host="algo-2", node_rank=0)
        hosts = Hosts(job, connect(store), lambda: connect(store))
        started.append(Heartbeat(job, Siblings(HashStore(), []), hosts, 2))
        return started[-1]

    yield start
    for beat in started:
        beat.stop()


@pytest.fixture
def next_host(make_job: MakeJob, store: TCPStore) -> Hosts:
    """The other host, which looks when the test says so."""
    return Hosts(make_job(current_host="algo-1", node_rank=1), connect(store))


def beats(next_host: Hosts, times: int = 3) -> None:
    """Wait until the first host has been heard this often."""
    heard = 0
    for turn in range(10_000):
        next_host.exchange(float(turn), "at step 1")
        heard += next_host.heard == turn
        if heard == times:
            return
        time.sleep(0.02)
    pytest.fail("the first host counts no more")


@pytest.mark.parametrize("error", [ValueError("no step yet"), SystemExit(3)], ids=["exception", "exit"])
def test_a_step_that_raises_is_said_once_and_no_host_is_taken_for_silent(
    start: Callable[[], Heartbeat],
    next_host: Hosts,
    ended: list[int],
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    asked: list[float] = []

    def progress() -> tuple[int, bool]:
        asked.append(time.monotonic())
        raise error

    heartbeat.tell_progress(progress)
    start()
    until(lambda: bool(caplog.records) and bool(asked), "a line")
    beats(next_host, 8)
    assert ended == []
    assert len(caplog.records) == 1
    assert f"{type(error).__name__}: {error}" in caplog.text
    assert next_host.next_step == "the step is not known"
    assert (len(asked) > 1) == isinstance(error, Exception)  # the thread goes on where it can


def test_a_step_that_hangs_keeps_no_host_from_counting(
    start: Callable[[], Heartbeat], next_host: Hosts, ended: list[int]
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def progress() -> tuple[int, bool]:
        asked.set()
        go_on.wait()
        return 1, True

    heartbeat.tell_progress(progress)
    start()
    try:
        assert asked.wait(60)
        beats(next_host, 8)
    finally:
        go_on.set()
    assert ended == []


def test_a_thread_that_fails_says_so_in_one_line_and_goodbye(
    start: Callable[[], Heartbeat],
    next_host: Hosts,
    ended: list[int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exchange(*_: object) -> None:
        raise KeyError("a fault of ours")

    start()
    beats(next_host)
    monkeypatch.setattr(Hosts, "exchange", exchange)
    until(lambda: read(next_host._store, "left/0") is not None, "goodbye")
    time.sleep(3)  # longer than the limit
    assert [record.getMessage() for record in caplog.records] == [f"{LINE}KeyError: 'a fault of ours'"]
    assert ended == []


def test_a_lost_connection_to_a_store_that_is_there_is_no_silence(
    start: Callable[[], Heartbeat], next_host: Hosts, ended: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    beat = start()
    beats(next_host)
    assert beat._hosts is not None
    beat._hosts._store.set("text", "no number")
    with pytest.raises(RuntimeError):  # torch's server closes the connection
        beat._hosts._store.add("text", 1)
    until(lambda: read(next_host._store, "left/0") is not None, "goodbye")
    assert ended == []
    assert not caplog.records


def test_another_connection_is_made_only_to_a_store_that_is_there(free_port: int) -> None:
    server = TCPStore("127.0.0.1", free_port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    dist.init_process_group("gloo", store=connect(server), rank=0, world_size=1)
    try:
        assert own_connection(timedelta(seconds=5), only_if_there=True) is not None
        del server
        with pytest.raises(OSError, match="refused"):
            own_connection(timedelta(seconds=5), only_if_there=True)
    finally:
        dist.destroy_process_group()


def test_whatever_stands_at_the_store_no_host_is_ended_and_the_others_are_still_heard(
    start: Callable[[], Heartbeat],
    next_host: Hosts,
    store: TCPStore,
    ended: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    start()
    beats(next_host)
    for value in STRANGE:
        for key in ("ended", "left/0", "left/1", "beat/0", "beat/1", "process/0", "process/1"):
            store.set(key, value)  # type: ignore[arg-type] # bytes are taken
        next_host.exchange(0.0, "at step 1")
        assert (next_host.ended, next_host.next_left) == ("", False)
    beats(next_host)
    assert next_host.next_name == "algo-2"
    assert ended == []
    assert not caplog.records


def test_what_no_process_tells_of_itself_makes_no_process_known() -> None:
    store = HashStore()
    siblings = Siblings(store, [1])
    for value in [*STRANGE, encode("5", "1").encode(), encode(-5, "1").encode()]:
        store.set("process/1", value)  # type: ignore[arg-type] # bytes are taken
        siblings.poll()
        assert siblings.missing() == [1]


def test_whatever_stands_at_the_store_only_sigterm_stops_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sigterm, "_INTERVAL", 0.001)
    store = HashStore()
    ranks = [StopAgreement(Participants(store, rank, range(2)), f"algo-{rank + 1}, rank {rank}") for rank in range(2)]
    try:
        for value in STRANGE:
            for key in ("origin", "passed/1", "stop"):
                store.set(key, value)  # type: ignore[arg-type] # bytes are taken
            time.sleep(0.003)
        assert [rank.stop_here() for rank in ranks] == [None, None]
        assert ranks[1].request()
        until(lambda: all(rank._decided.is_set() for rank in ranks), "agreement")
        assert [rank.origin for rank in ranks] == ["algo-2, rank 1"] * 2
        assert {rank.stop_here() for rank in ranks} == {sigterm.Stop(2, None)}
    finally:
        for rank in reversed(ranks):
            rank._leave()
    assert not caplog.records


@pytest.mark.parametrize("content", ["{", '{"LocalPath": 5}'])
def test_a_malformed_checkpoint_configuration_does_not_keep_sigterm_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "current_instance_type": "ml.c5.xlarge"}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    (config / "checkpointconfig.json").write_text(content)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("TRAINING_JOB_NAME", "digits")
    alone = StopAgreement(Participants(HashStore(), 0, range(1)), "algo-1, rank 0", folder=checkpoint_folder)
    alone.request()
    until(alone._decided.is_set, "agreement")
    assert alone.stop_here() == sigterm.Stop(1, None)
    alone._leave()
    assert "The job's checkpoint folder is unknown, so SIGTERM leaves no checkpoint: " in caplog.text


def test_a_sigterm_thread_that_fails_lets_the_training_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(sigterm, "read", fail)
    alone = StopAgreement(Participants(HashStore(), 0, range(1)), "algo-1, rank 0")
    alone._thread.join(60)
    assert alone.stop_here() is None
    assert not alone.request()  # then SIGTERM does what it does to any process
    assert len(caplog.records) == 1
    assert "The training continues. Cause: KeyError: 'a fault of ours'" in caplog.text


def test_where_no_thread_is_left_the_training_goes_on(
    start: Callable[[], Heartbeat], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    start().stop()
    alone = StopAgreement(Participants(HashStore(), 0, range(1)), "algo-1, rank 0")
    assert alone.stop_here() is None
    assert not alone.request()
    alone._leave()
    assert len(caplog.records) == 3
    assert caplog.text.count("The training continues. Cause: RuntimeError: can't start new thread") == 3


def test_where_no_second_connection_is_made_the_training_goes_on(
    make_job: MakeJob, free_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Too many open files")

    server = TCPStore("127.0.0.1", free_port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    dist.init_process_group("gloo", store=connect(server), rank=0, world_size=1)
    monkeypatch.setattr(heartbeat, "own_connection", refuse)
    monkeypatch.setattr(participants, "own_connection", refuse)
    try:
        heartbeat.start(make_job(node_rank=0, rank=0, world_size=2))
        alone = sigterm.agreement(make_job(node_rank=0, rank=0, world_size=2), lambda: None)
        assert alone is not None
        assert alone.stop_here() is None
        alone._leave()
    finally:
        sigterm._made.pop(dist.group.WORLD, None)
        dist.destroy_process_group()
    assert caplog.text.count("The training continues. Cause: RuntimeError: Too many open files") == 2


def test_what_is_written_is_read_on_the_other_side_as_it_was_and_strange_bytes_never() -> None:
    for values in [("",), ("a/ä 漢\u00a0\u3000/\U0001f600", 5, True), (), ("x" * 4096, 0)]:
        assert decode(encode(*values).encode(), *map(type, values)) == values
    (shown,) = decode(encode("\x1b[2J\0 and\nmore " + "ä" * 9999).encode(), str) or ("",)
    assert shown.startswith("\\x1b[2J\\x00 and\nmore ää")
    assert len(shown) == 4096
    for value in STRANGE:
        assert all(decode(value, *kinds) is None for kinds in ((), (str,), (int,), (str, int)))
    assert decode(encode(1).encode(), bool) is None
    assert decode(encode("x" * 4000).encode() + b" " * LONGEST, str) is None


def test_the_first_text_stands_unless_no_rank_wrote_it() -> None:
    store = PrefixStore("x", HashStore())
    assert write_first(store, "key", "first") == write_first(store, "key", "second") == "first"
    store.set("other", b"\xff\0")  # type: ignore[arg-type]
    assert write_first(store, "other", "mine") == write_first(store, "other", "later") == "mine"


def test_hosts_whose_names_nobody_told_are_named_by_their_number(make_job: MakeJob) -> None:
    job = make_job(node_rank=0)
    here, there = Hosts(job, store := HashStore()), Hosts(replace(job, node_rank=1), store)
    there.exchange(0.0, "")
    store.set("beat/1", "nonsense")
    here.exchange(1.0, "")
    assert (here.heard, here.next_name) == (1.0, "The host of node rank 1")
