from __future__ import annotations

import time

import pytest

from lightning_sagemaker.distributed.interface import is_loopback
from lightning_sagemaker.distributed.reachability import Answer, try_to_connect


def test_a_listener_is_open(open_port: int) -> None:
    assert try_to_connect("127.0.0.1", open_port) is Answer.OPEN


def test_a_port_without_a_listener_refuses(free_port: int) -> None:
    assert try_to_connect("127.0.0.1", free_port) is Answer.REFUSED


def test_a_name_that_nobody_knows_is_no_silence() -> None:
    assert try_to_connect("algo-77.invalid", 7777) is Answer.UNKNOWN_NAME


def test_a_port_that_drops_what_comes_is_silent_and_patience_is_kept(silent_port: int) -> None:
    start = time.monotonic()
    assert try_to_connect("127.0.0.1", silent_port, patience=0.3) is Answer.SILENT
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.1.1", "::1"])
def test_addresses_of_this_very_machine_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.7", "algo-77.invalid"])
def test_other_addresses_and_unknown_names_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
