from __future__ import annotations

import logging
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed import waiting
from lightning_sagemaker.distributed.store import TCPStore, encode
from lightning_sagemaker.distributed.wait_for_ranks import wait_for_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker import SageMakerJob

    MakeJob = Callable[..., SageMakerJob]


def connect(store: TCPStore) -> TCPStore:
    """A connection of its own, as each process has it."""
    return TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20))


def call(job: SageMakerJob, store: TCPStore, rank: int, *, size: int = 4, timeout: float = 20.0) -> None:
    wait_for_ranks(replace(job, rank=rank, world_size=size), store, timeout)


def test_nobody_is_kept_waiting_once_all_have_come(make_job: MakeJob, store: TCPStore) -> None:
    hosts = ["algo-2", "algo-2", "algo-1", "algo-1"]
    with ThreadPoolExecutor(4) as ranks:
        for done in [
            ranks.submit(call, make_job(current_host=host), connect(store), rank) for rank, host in enumerate(hosts)
        ]:
            done.result(20)


def test_the_time_limit_names_each_host_that_is_missing_and_how_many_of_its_processes_came(
    make_job: MakeJob, store: TCPStore
) -> None:
    job = make_job(world_hosts=("algo-2", "algo-1", "algo-10"), num_nodes=3, current_host="algo-2")
    store.add("algo-2", 1)
    store.add("algo-1", 1)
    with pytest.raises(
        TimeoutError, match=r"algo-2 has waited 1 s, the time limit, for all processes of the job\. "
    ) as failure:
        call(job, store, 0, size=6, timeout=1)
    assert "Missing: algo-1 (1 of 2 processes have joined), algo-10 (0 of 2 processes have joined)" in str(
        failure.value
    )
    assert "longer `timeout`" in str(failure.value)


def test_a_line_says_who_is_missing_while_anyone_waits(
    make_job: MakeJob, store: TCPStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.5)
    with pytest.raises(TimeoutError):
        call(make_job(), store, 1, timeout=2)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 2 <= len(lines) <= 4
    missing = "algo-2 (0 of 2 processes have joined), algo-1 (1 of 2 processes have joined)"
    assert re.fullmatch(
        rf"algo-1 has waited [012] s for all processes of the job\. Missing: {re.escape(missing)}", lines[0]
    )


def test_rank_zero_says_of_a_host_without_a_name_that_its_container_is_not_up(
    make_job: MakeJob, store: TCPStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.5)
    job = make_job(main_address="192.0.2.1", world_hosts=("algo-1", "algo-77.invalid"))
    with pytest.raises(TimeoutError):
        call(job, store, 0, size=2, timeout=2)
    assert (
        "algo-77.invalid (0 of 1 processes have joined; its name is not known yet: its container is not up)"
        in caplog.text
    )


def test_rank_zero_names_a_host_that_drops_what_comes_within_ten_seconds(
    make_job: MakeJob, store: TCPStore, silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(main_address="192.0.2.1", main_port=silent_port, world_hosts=("algo-1", "localhost"))
    with pytest.raises(TimeoutError):
        call(job, store, 0, size=2, timeout=7)
    (line,) = {record.getMessage() for record in caplog.records if "security group" in record.getMessage()}
    assert line.startswith(f"algo-1 gets no answer from localhost at localhost:{silent_port}")


def test_two_hosts_that_claim_one_rank_are_named_on_all_and_nobody_waits(make_job: MakeJob, store: TCPStore) -> None:
    """NODE_RANK set by a script, to the same number on both."""
    hosts = ["algo-2", "algo-1", "algo-3"]
    with ThreadPoolExecutor(3) as ranks:
        calls = [
            ranks.submit(call, make_job(current_host=host), connect(store), rank, size=3)
            for rank, host in zip((0, 1, 1), hosts, strict=True)
        ]
        for done in calls:
            with pytest.raises(ValueError, match=r"^algo-[13] and algo-[13] both have a process of rank 1.*HINT: "):
                done.result(20)


def test_hosts_that_say_anything_keep_rank_zero_no_longer_than_its_time(
    make_job: MakeJob, store: TCPStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte every 0.4 s, from four hosts: one after the other, and each to the end, would take minutes."""
    with socket.create_server(("", 0), backlog=64) as server:
        threading.Thread(target=drip_to_all, args=(server,), daemon=True).start()
        hosts = tuple(f"127.0.0.{number}" for number in range(2, 6))
        port = server.getsockname()[1]
        job = make_job(
            main_address="192.0.2.1", main_port=port, world_hosts=("algo-1", *hosts), num_nodes=5, node_rank=0
        )
        start = time.monotonic()
        with pytest.raises(
            TimeoutError, match=r"Missing: 127\.0\.0\.2 \(0 of 1 processes have joined; something listens"
        ):
            call(job, store, 0, size=5, timeout=3)
        assert time.monotonic() - start < 15  # one look after the limit: six seconds, and room for a busy machine
        server.shutdown(socket.SHUT_RDWR)
    assert not caplog.records


def drip_to_all(server: socket.socket) -> None:
    """Send each one who connects a byte now and then."""
    text = encode("127.0.0.2", True, "the end").encode()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            for byte in text:
                connection.sendall(bytes([byte]))
                time.sleep(0.4)

    with suppress(OSError):
        while True:
            threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()


def test_what_no_rank_wrote_at_the_store_stops_nobody(make_job: MakeJob, store: TCPStore) -> None:
    for value in (b"\xff\0", b"9" * 5000, b"algo-1 and algo-2 both have a process of rank 1"):
        for key in ("outcome", "rank/0", "rank/1"):
            store.set(key, value)  # type: ignore[arg-type] # bytes are taken
    with ThreadPoolExecutor(2) as ranks:
        calls = [ranks.submit(call, make_job(), connect(store), rank, size=2) for rank in range(2)]
        assert [done.result(20) for done in calls] == [None, None]
