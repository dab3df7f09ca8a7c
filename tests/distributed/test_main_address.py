from __future__ import annotations

import logging
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed import reachability, waiting
from lightning_sagemaker.distributed.reachability import wait_for_agents, wait_for_main_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker import SageMakerJob

    MakeJob = Callable[..., SageMakerJob]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines every half second instead of every half minute."""
    monkeypatch.setattr(waiting, "EVERY", 0.5)


def test_an_open_address_needs_no_line(make_job: MakeJob, open_port: int, caplog: pytest.LogCaptureFixture) -> None:
    wait_for_main_address(make_job(main_port=open_port), limit=5, timeout=5)
    assert not caplog.records


@pytest.mark.usefixtures("often")
def test_a_process_that_comes_late_is_waited_for_with_a_line_that_says_its_host_is_up(
    make_job: MakeJob, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    servers: list[socket.socket] = []
    late = threading.Timer(2.5, lambda: servers.append(socket.create_server(("127.0.0.1", free_port))))
    late.start()
    wait_for_main_address(make_job(main_port=free_port), limit=1, timeout=20)
    servers[0].close()
    assert f"s for rank 0 to listen at 127.0.0.1:{free_port}: " in caplog.text
    assert "nothing listens there" in caplog.text


@pytest.mark.usefixtures("often")
def test_a_main_address_that_means_this_host_is_named_with_the_variable_to_look_at(
    make_job: MakeJob, free_port: int
) -> None:
    with pytest.raises(TimeoutError, match=r"'localhost' means this very host.*MASTER_ADDR set by hand"):
        wait_for_main_address(make_job(main_address="localhost", main_port=free_port), limit=9, timeout=1)


def test_a_container_that_is_not_up_yet_is_named_once_within_seconds_and_waited_for_until_the_group_s_time_limit(
    make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(main_address="algo-7.invalid", hosts=("algo-1", "algo-7.invalid"))
    with pytest.raises(
        TimeoutError, match=r"algo-1 has waited [67] s, the time limit, for rank 0 to listen at algo-7\.invalid:"
    ):
        wait_for_main_address(job, limit=0.1, timeout=6)
    (line,) = caplog.records
    assert re.fullmatch(
        r"algo-1 has waited [3-5] s for rank 0 to listen at algo-7\.invalid:7777:"
        " its name is not known yet: its container is not up",
        line.getMessage(),
    )


@pytest.mark.usefixtures("often")
def test_an_unknown_name_that_is_none_of_the_job_s_hosts_is_named_with_the_variable_to_look_at(
    make_job: MakeJob,
) -> None:
    with pytest.raises(TimeoutError, match=r"none of the job's hosts \(algo-1, algo-2\)\. HINT: is MASTER_ADDR set"):
        wait_for_main_address(make_job(main_address="algo-77.invalid"), limit=9, timeout=1)


def test_an_address_that_drops_what_comes_is_named_within_ten_seconds_and_ends_the_wait_after_the_limit(
    make_job: MakeJob, silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectionError) as failure:
        wait_for_main_address(make_job(main_port=silent_port), limit=11, timeout=60)
    assert 11 <= time.monotonic() - start < 30
    (line,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert line.created - (time.time() - (time.monotonic() - start)) < 10
    for text in (line.getMessage(), str(failure.value)):
        assert f"algo-1 gets no answer from algo-2 at 127.0.0.1:{silent_port} (interface eth0)" in text
        assert "security group" in text
        assert "HINT" in text
    assert "its port 22" in str(failure.value)
    assert "LIGHTNING_SAGEMAKER_REACHABILITY" in line.getMessage()


def test_only_the_first_process_of_a_host_speaks(
    make_job: MakeJob, silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConnectionError):
        wait_for_main_address(make_job(main_port=silent_port, local_rank=1), limit=5, timeout=60)
    assert not caplog.records


def test_agents_who_listen_elsewhere_are_said_and_then_an_error_that_names_what_was_changed(
    make_job: MakeJob, free_port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "FIRST_LINE", 0.5)
    job = make_job(main_port=free_port)
    with pytest.raises(
        ConnectionError, match=rf"algo-1 finds no process listening at 127.0.0.1:{free_port}, .*MASTER_ADDR"
    ):
        wait_for_agents(job, limit=2)
    (line,) = caplog.messages
    assert "The job ends after 2 s of this (LIGHTNING_SAGEMAKER_REACHABILITY)." in line


def test_agents_who_listen_need_no_line(make_job: MakeJob, open_port: int, caplog: pytest.LogCaptureFixture) -> None:
    wait_for_agents(make_job(main_port=open_port), limit=2)
    assert not caplog.records
