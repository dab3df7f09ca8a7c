"""The quiet end: no process aborts after its work, and no end is delayed for long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed import shutdown
from lightning_sagemaker.simulate.container import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAST_COLLECTIVE = Path(__file__).parents[1] / "programs" / "last_collective.py"
ROUNDS = 10 if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1" else 1


@contextmanager
def worker(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """A thread that bears the name of gloo's while it works."""
    begun, over = threading.Event(), threading.Event()

    def run() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(shutdown._WORKER)
        begun.set()
        work(over)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def run_for(seconds: float, over: threading.Event) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not over.is_set():
        pass


def seconds_waited() -> float:
    start = time.monotonic()
    shutdown.wait_for_workers(unknown=False)
    return time.monotonic() - start


def test_wait_ends_after_the_worker_has_finished() -> None:
    finished = threading.Event()

    def work(over: threading.Event) -> None:
        run_for(0.4, over)
        finished.set()
        over.wait(10)

    with worker(work):
        shutdown.wait_for_workers(unknown=False)
        assert finished.is_set()


def test_worker_that_sleeps_is_not_waited_for() -> None:
    with worker(lambda over: over.wait(10)):
        assert seconds_waited() < 0.5


def test_worker_that_never_ends_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_LIMIT", 0.3)
    with worker(lambda over: run_for(10, over)):
        assert 0.3 <= seconds_waited() < 2


def test_without_workers_only_nameless_ones_are_waited_for() -> None:
    assert seconds_waited() < 0.1
    start = time.monotonic()
    shutdown.wait_for_workers(unknown=True)
    assert time.monotonic() - start >= shutdown._NAMELESS


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("destroy", 0), ("raise", 1), ("exit", 3)])
def test_process_ends_by_its_own_exit_code(how: str, code: int) -> None:
    for _ in range(ROUNDS):
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
        root = str(LAST_COLLECTIVE.parents[2])
        processes = [
            subprocess.Popen(
                [sys.executable, str(LAST_COLLECTIVE), how, "quiet"],
                env={**os.environ, **world, "RANK": str(rank), "PYTHONPATH": root},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        outputs = [process.communicate(timeout=240)[1] for process in processes]
        assert [process.returncode for process in processes] == [code, code], outputs


def fake_smddp(monkeypatch: pytest.MonkeyPatch, destroy: Callable[[], object]) -> None:
    dist = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_backend=lambda: "smddp",
        get_backend_config=lambda: "cuda:smddp",
        destroy_process_group=destroy,
    )
    monkeypatch.setitem(sys.modules, "torch.distributed", dist)
    monkeypatch.delattr(sys, "last_value", raising=False)


def test_smddp_group_is_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    fake_smddp(monkeypatch, lambda: ended.append(True))
    shutdown._end()
    assert ended == [True]


def test_smddp_group_is_left_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    fake_smddp(monkeypatch, lambda: ended.append(True))
    monkeypatch.setattr(sys, "last_value", ValueError(), raising=False)
    shutdown._end()
    assert not ended


def test_smddp_group_that_cannot_be_destroyed_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_LIMIT", 0.2)
    over = threading.Event()
    fake_smddp(monkeypatch, lambda: over.wait(10))
    start = time.monotonic()
    shutdown._end()
    over.set()
    assert time.monotonic() - start < 2
