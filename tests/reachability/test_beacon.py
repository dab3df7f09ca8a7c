from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.reachability.beacon import Beacon, listen
from lightning_sagemaker.reachability.probe import Answer, ask

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def beacon(free_port: int) -> Iterator[Beacon]:
    beacon = Beacon("127.0.0.1", free_port)
    yield beacon
    beacon.close()


def test_who_connects_hears_the_newest_text_and_that_the_host_goes_on(beacon: Beacon, free_port: int) -> None:
    beacon.say("first")
    assert listen("127.0.0.1", free_port) == ("first", False)
    beacon.say("second")
    assert listen("127.0.0.1", free_port) == ("second", False)


def test_a_host_that_ends_is_heard_to_the_end_by_who_listens_and_not_by_who_only_connects(
    beacon: Beacon, free_port: int
) -> None:
    heard: list[tuple[str, bool]] = []

    def hear() -> None:
        while not heard or not heard[-1][1]:
            assert ask("127.0.0.1", free_port) is Answer.OPEN
            heard.append(listen("127.0.0.1", free_port))
            time.sleep(0.05)

    beacon.say("no answer so far")
    listener = threading.Thread(target=hear)
    listener.start()
    time.sleep(0.2)
    beacon.say_last("no answer at all")
    beacon.close()
    listener.join()
    assert heard[0] == ("no answer so far", False)
    assert heard[-1] == ("no answer at all", True)


def test_who_has_nothing_to_say_does_not_listen(beacon: Beacon, free_port: int) -> None:
    beacon.say_last("the end")
    assert listen("127.0.0.1", free_port) == ("", False)


def test_a_port_that_is_taken_keeps_the_host_mute_and_harms_nobody(open_port: int) -> None:
    beacon = Beacon("127.0.0.1", open_port)
    beacon.say("no answer")
    beacon.say_last("the end")
    beacon.close()


def test_a_closed_beacon_frees_the_port(beacon: Beacon, free_port: int) -> None:
    beacon.say("no answer")
    beacon.close()
    assert ask("127.0.0.1", free_port) is Answer.REFUSED
