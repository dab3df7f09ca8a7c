"""Waits for other processes: none is silent, and none outlasts its limit."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed import waiting
from lightning_sagemaker.distributed.waiting import Wait, leave_store

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines each 0.2 s instead of each half minute."""
    monkeypatch.setattr(waiting, "EVERY", 0.2)


def after(seconds: float) -> Callable[[], bool | None]:
    """What is found after so many seconds."""
    end = time.monotonic() + seconds
    return lambda: True if time.monotonic() >= end else None


def test_a_wait_ends_once_something_is_found_even_where_that_is_empty() -> None:
    assert Wait("algo-1", lambda: "algo-2").until(lambda: "") == ""


def test_a_line_now_and_then_says_who_waits_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    Wait("algo-1", lambda: "algo-2", limit=60).until(after(0.7))
    lines = {record.getMessage() for record in caplog.records}
    assert 2 <= len(caplog.records) <= 3
    assert lines <= {"algo-1 has waited 0 s for algo-2", "algo-1 has waited 1 s for algo-2"}


def test_a_process_that_does_not_speak_ends_at_the_limit_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    quiet = Wait("algo-1", lambda: "algo-2", limit=0.5, hint="HINT: look.", speaks=False)
    with pytest.raises(TimeoutError, match=r"^algo-1 has waited [01] s, the time limit, for algo-2\. HINT: look\.$"):
        quiet.until(lambda: None)
    assert not caplog.records


def test_the_first_line_can_come_sooner(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EVERY", 60)
    wait = Wait("algo-1", lambda: "algo-2")
    found = after(0.6)

    def poll() -> bool | None:
        wait.say_soon(0.1)  # again and again, and yet one line
        return found()

    wait.until(poll)
    assert len(caplog.records) == 1


def test_the_limit_begins_anew_while_the_others_get_on() -> None:
    pieces = iter(range(1, 100))
    end = time.monotonic() + 1.5
    working = Wait(
        "algo-1", lambda: "a file", limit=0.5, progress=lambda: next(pieces) if time.monotonic() < end else 0
    )
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        working.until(lambda: None)
    assert time.monotonic() - start > 1.5


def test_an_error_in_the_polled_function_ends_the_wait() -> None:
    def poll() -> None:
        raise ConnectionError("the others are gone")

    with pytest.raises(ConnectionError, match="the others are gone"):
        Wait("algo-1", lambda: "algo-2").until(poll)


def test_a_wait_polls_often_at_first_and_rarely_later() -> None:
    polls: list[float] = []
    found = after(1.0)

    def poll() -> bool | None:
        polls.append(time.monotonic())
        return found()

    Wait("algo-1", lambda: "algo-2").until(poll)
    assert 5 < len(polls) < 20


def test_the_process_with_the_store_s_server_ends_after_the_others_which_wait_for_nobody() -> None:
    store, ended = HashStore(), list[int]()

    def leave(number: int) -> None:
        leave_store(store, 3, f"rank {number}", has_server=number == 0, limit=60)
        ended.append(number)

    first = threading.Thread(target=leave, args=(0,))
    first.start()
    leave(2)
    first.join(0.5)
    assert ended == [2]
    leave(1)
    first.join(60)
    assert ended == [2, 1, 0]


def test_who_does_not_leave_is_waited_for_no_longer_than_the_limit() -> None:
    leave_store(HashStore(), 2, "rank 0", has_server=True, limit=0.1)
