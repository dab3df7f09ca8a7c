from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed.reachability import check_peer_connections
from lightning_sagemaker.distributed.store import TCPStore, encode, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker import SageMakerJob

    MakeJob = Callable[..., SageMakerJob]


def connect(store: TCPStore) -> TCPStore:
    """A connection of its own, as each process has it."""
    return TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20))


def check(job: SageMakerJob, store: TCPStore, *, first: bool = True) -> None:
    job = replace(job, local_rank=0 if first else 1)
    check_peer_connections(job, store, "127.0.0.1", limit=7, timeout=60)


def test_hosts_that_reach_each_other_let_all_their_processes_go_on(make_job: MakeJob, store: TCPStore) -> None:
    jobs = [make_job(node_rank=node_rank) for node_rank in (0, 1)]
    with ThreadPoolExecutor(4) as processes:
        for done in [
            processes.submit(check, job, connect(store), first=first) for job in jobs for first in (True, False)
        ]:
            done.result(20)


def test_a_port_that_is_closed_to_the_neighbour_ends_the_job_in_all_processes_with_one_text(
    make_job: MakeJob, store: TCPStore, silent_port: int, open_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, "at/1", "algo-1", "127.0.0.1", silent_port)
    job = make_job(node_rank=0, current_host="algo-2", main_port=open_port)
    with ThreadPoolExecutor(2) as processes:
        failures = [processes.submit(check, job, connect(store), first=first).exception(30) for first in (True, False)]
    assert {type(failure) for failure in failures} == {ConnectionError}
    (text,) = {str(failure) for failure in failures}
    assert f"algo-2 gets no answer from algo-1 at 127.0.0.1:{silent_port}" in text
    assert f"the main address 127.0.0.1:{open_port} answers, so only some ports are open" in text
    assert "LIGHTNING_SAGEMAKER_REACHABILITY" in caplog.text


def test_a_refusal_where_the_neighbour_listens_names_the_other_machine_as_cause(
    make_job: MakeJob, store: TCPStore, free_port: int
) -> None:
    write(store, "at/1", "algo-1", "127.0.0.1", free_port)
    with pytest.raises(ConnectionError, match="it was refused, although algo-1 listens there"):
        check(make_job(node_rank=0), store)


def test_an_address_that_no_host_wrote_is_not_tried_and_the_true_one_is_waited_for(
    make_job: MakeJob, store: TCPStore, open_port: int
) -> None:
    for key in ("at/1", "outcome"):
        store.set(key, b"\xff\0")  # type: ignore[arg-type] # bytes are taken
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(check, make_job(node_rank=0), connect(store))
        for nonsense in (b'["algo-1", "127.0.0.1", 1]', encode("algo-1", "127.0.0.1", "1").encode(), b"[" * 9999):
            store.set("at/1", nonsense)  # type: ignore[arg-type]
            time.sleep(0.3)
        assert not done.done()
        write(store, "at/1", "algo-1", "127.0.0.1", open_port)
        write(store, "outcome", "")
        assert done.result(20) is None
