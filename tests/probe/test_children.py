"""Trials that hang or crash: against programs that do so, in place of a library."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import psutil

from lightning_sagemaker.probe.children import outcomes
from lightning_sagemaker.probe.guarded import guarded
from lightning_sagemaker.probe.trials import INIT, TRIALS, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """\
import json, os, sys, time
task, behaviour = json.loads(sys.argv[2]), json.loads(sys.argv[1])
from lightning_sagemaker.probe.trials import TRIALS
names = TRIALS[task["trial"]].operations[task["start"]:]
with open(task["results"], "a", buffering=1) as file:
    for name in (["init"] if task["start"] else []) + list(names):
        how = behaviour.get(name, "ok")
        if how == "absent":
            sys.exit(3)
        file.write(json.dumps({"operation": name, "outcome": "begun"}) + "\\n")
        if how == "hang":
            time.sleep(60)
        if how == "crash":
            print("terminate called", file=sys.stderr, flush=True)
            os._exit(7)
        file.write(json.dumps({"operation": name, "outcome": how}) + "\\n")
        if (name, how) == ("init", "error"):
            sys.exit()
"""
NAMES = TRIALS["smddp"].operations


def told(behaviour: str, seconds: float = 60, limit: float = 1.0) -> Iterator[tuple[str, dict[str, Any]]]:
    task = Task(
        trial="smddp",
        start=0,
        rank=0,
        world_size=1,
        local_rank=0,
        address="127.0.0.1",
        port=1,
        job_port=2,
        limit=limit,
        patience=5.0,
        results="",
    )
    command = (sys.executable, "-c", PROGRAM, behaviour)
    return outcomes(task, time.monotonic() + seconds, command)


def test_behind_a_hang_and_a_crash_the_next_process_goes_on() -> None:
    begin = time.monotonic()
    found = dict(told('{"broadcast": "hang", "all_reduce_avg": "crash"}'))
    assert time.monotonic() - begin < 30
    assert list(found) == [*NAMES, "end"]
    assert found["broadcast"]["outcome"] == "hang"
    assert found["all_reduce_avg"] == {"outcome": "ended", "text": "exit code 7: terminate called"}
    others = {name: found[name]["outcome"] for name in NAMES if name not in ("broadcast", "all_reduce_avg")}
    assert set(others.values()) == {"ok"}
    assert [process["hang"] for process in found["end"]["processes"]] == [True, False, False]
    assert [process["code"] for process in found["end"]["processes"]] == [-9, 7, 0]


def test_an_outcome_is_told_before_the_next_operation_ends_and_who_stops_listening_leaves_nobody() -> None:
    others = set(psutil.Process().children())
    begin, telling = time.monotonic(), told('{"all_reduce_sum": "hang"}', limit=100.0)
    assert next(telling) == (INIT, {"outcome": "ok"})
    assert time.monotonic() - begin < 50
    children = [child for child in psutil.Process().children() if child not in others]
    telling.close()  # type: ignore[attr-defined] # a generator
    assert len(children) == 1
    assert not children[0].is_running()


def test_a_group_that_cannot_be_made_ends_the_trial() -> None:
    found = dict(told('{"init": "error"}'))
    assert found[INIT]["outcome"] == "error"
    assert {found[name]["outcome"] for name in NAMES if name != INIT} == {"not tried"}
    assert "the group could not be made" in found["barrier"]["text"]
    assert len(found["end"]["processes"]) == 1


def test_ranks_that_do_not_come_end_the_trial() -> None:
    found = dict(told('{"init": "absent"}'))
    assert {found[name]["text"] for name in NAMES} == {"not all ranks came"}
    assert found["end"]["outcome"] == "error"


def test_a_rank_that_waited_for_a_hanging_one_meets_it_again() -> None:
    # Its own operation was refused at once; at the next one the others did not come.
    found = dict(told('{"all_gather": "absent"}'))
    assert found["broadcast"]["outcome"] == "ok"
    assert len(found["end"]["processes"]) == 2  # the second began at all_gather, and nobody came again
    assert found["all_gather"]["outcome"] == "not tried"


def test_without_time_left_nothing_is_started() -> None:
    found = dict(told("{}", seconds=-1))
    assert {found[name]["text"] for name in NAMES} == {"no time was left"}
    assert found["end"]["processes"] == []


def test_a_look_that_hangs_or_raises_is_an_answer() -> None:
    begin = time.monotonic()
    assert guarded(lambda: time.sleep(30), 0.2) == {"hang": "no answer within 0.2 s"}
    assert time.monotonic() - begin < 10

    def broken() -> None:
        raise OSError("first line\nsecond line")

    assert guarded(broken, 10) == {"error": "OSError: first line"}
    assert guarded(lambda: [1], 10) == [1]
