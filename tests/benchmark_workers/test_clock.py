from __future__ import annotations

import time

from benchmarks.workers.clock import Clock


def test_seconds_are_those_between_the_marks_and_are_given_once() -> None:
    clock = Clock()
    for _ in range(4):
        clock.mark()
        time.sleep(0.01)
    found = clock.seconds()
    assert len(found) == 3
    assert min(found) >= 0.01
    assert clock.seconds() == []


def test_a_step_is_prolonged_by_its_share() -> None:
    clock = Clock()
    clock.mark()
    time.sleep(0.1)
    clock.prolong(0.5)
    clock.mark()
    (found,) = clock.seconds()
    assert found >= 0.15
