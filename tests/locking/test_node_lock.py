"""``node_lock`` between real processes."""

from __future__ import annotations

import errno
import fcntl
import logging
import re
import threading
from typing import TYPE_CHECKING

import filelock
import pytest

from lightning_sagemaker.locking import lock, node_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Crew


@pytest.mark.parametrize("count", [2, 8, 64])
def test_one_process_at_a_time_is_inside(crew: Callable[..., Crew], count: int) -> None:
    seen = crew(
        count,
        """
        def act(index):
            for _ in range(2):
                with node_lock("x", timeout=60), witness():
                    note("in")
                    time.sleep(0.001)
        """,
    )
    assert len(seen.notes) == 2 * count
    assert not [record["message"] for record in seen if "error" in record]


def test_a_killed_holder_lets_the_next_one_in_which_says_so(crew: Callable[..., Crew]) -> None:
    seen = crew(
        4,
        """
        def act(index):
            with node_lock("x", timeout=60), witness():
                note(os.getpid())
                if len((folder / "notes").read_text().splitlines()) == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert len(seen.notes) == 4
    lines = [line for record in seen.survivors for line in record["log"]]
    assert len(lines) == 1
    assert f"ended without releasing the lock: pid {seen.notes[0]} on " in lines[0]


def test_a_log_handler_that_raises_leaves_no_lock_behind(
    crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew(
        1,
        """
        def act(index):
            with node_lock("x"):
                os.kill(os.getpid(), signal.SIGKILL)
        """,
    )

    def fail(*_: object) -> None:
        raise OSError("the log's disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger("lightning_sagemaker"), "warning", fail)
        with pytest.raises(OSError, match=r"the log's disk"), node_lock("x"):
            pass
    with node_lock("x", timeout=0):
        pass


def test_a_time_out_names_the_holder(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def act(index):
            if index == 0:
                with node_lock("data", timeout=60):
                    (folder / "held").touch()
                    wait_for((folder / "given-up").exists)
            else:
                wait_for((folder / "held").exists)
                try:
                    with node_lock("data", timeout=0.2):
                        pass
                finally:
                    (folder / "given-up").touch()
        """,
    )
    assert "error" not in seen[0]
    assert seen[1]["error"] == "TimeoutError"
    message = seen[1]["message"]
    assert message.startswith("node_lock('data') waited 0.")
    assert f"for pid {seen[0]['pid']} on " in message
    assert ", which took it 0 s ago. HINT: " in message


def test_a_waiter_says_for_whom_it_waits(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        from lightning_sagemaker.locking import lock
        lock._REPORT = 0.05

        def act(index):
            if index == 0:
                with node_lock("data", timeout=60):
                    (folder / "held").touch()
                    time.sleep(0.4)
            else:
                wait_for((folder / "held").exists)
                begin = time.monotonic()
                with node_lock("data", timeout=60):
                    note(time.monotonic() - begin)
        """,
    )
    lines, (waited,) = seen[1]["log"], map(float, seen.notes)
    assert 1 <= len(lines) <= waited / 0.05 + 1
    said = rf"node_lock\('data'\) has waited \d+ s \(limit: 60 s\) for pid {seen[0]['pid']} on "
    assert all(re.search(said, line) for line in lines)


def test_waiters_speak_every_thirty_seconds_and_never_wait_for_ever_by_default() -> None:
    assert lock._REPORT == 30
    assert 0 < lock.DEFAULT_TIMEOUT < 24 * 3600


def test_a_time_out_of_zero_takes_a_free_lock_and_no_other() -> None:
    with node_lock("x", timeout=0):
        failures: list[BaseException] = []

        def other() -> None:
            try:
                with node_lock("x", timeout=0):
                    pass
            except TimeoutError as error:
                failures.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
        assert len(failures) == 1


def test_a_block_that_is_left_in_another_thread_than_it_was_entered_in_is_free_again() -> None:
    held = node_lock("x")
    entering = threading.Thread(target=held.__enter__)
    entering.start()
    entering.join(60)
    with pytest.raises(TimeoutError), node_lock("x", timeout=0):
        pass
    held.__exit__(None, None, None)
    with node_lock("x", timeout=0):
        pass


def test_entering_twice_in_one_thread_is_an_error_and_leaves_the_lock_held_then_free() -> None:
    with node_lock("x"):
        with (
            pytest.raises(RuntimeError, match=r"node_lock\('x'\) is entered again by the thread.*HINT: "),
            node_lock("x"),
        ):
            pass
        with node_lock("y"):
            pass
    with node_lock("x", timeout=0):
        pass


def test_an_error_in_the_body_frees_the_lock() -> None:
    with pytest.raises(ZeroDivisionError), node_lock("x"):
        1 / 0  # noqa: B018
    with node_lock("x", timeout=0):
        pass


def test_threads_of_one_process_exclude_each_other() -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(5):
            with node_lock("x", timeout=60):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_set_back_or_forward_changes_no_wait(crew: Callable[..., Crew], hours: int) -> None:
    seen = crew(
        3,
        f"""
        now = time.time

        def act(index):
            if index == 0:
                with node_lock("x", timeout=60):
                    (folder / "held").touch()
                    time.sleep(0.3)
                return once_per_node(lambda: "made", key="k", timeout=60)
            wait_for((folder / "held").exists)
            time.time = lambda: now() + 3600 * {hours}
            for path in Path(os.environ["LIGHTNING_SAGEMAKER_LOCK_DIR"]).rglob("*"):
                os.utime(path, (now() + 3600 * {hours},) * 2)
            start = time.monotonic()
            with node_lock("x", timeout=20):
                pass
            assert time.monotonic() - start < 19
            return once_per_node(lambda: "made", key="k", timeout=20)
        """,
    )
    assert [record.get("value") for record in seen] == ["made"] * 3, [record.get("traceback") for record in seen]


def test_a_holder_record_that_is_damaged_or_old_only_costs_the_name(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def act(index):
            if index == 0:
                with node_lock("x", timeout=60):
                    (path,) = Path(os.environ["LIGHTNING_SAGEMAKER_LOCK_DIR"]).rglob("*.holder")
                    path.write_text("{")
                    (folder / "held").touch()
                    wait_for((folder / "given-up").exists)
            else:
                wait_for((folder / "held").exists)
                try:
                    with node_lock("x", timeout=0.1):
                        pass
                finally:
                    (folder / "given-up").touch()
        """,
    )
    assert "for a process that has not said who it is" in seen[1]["message"]


def test_a_file_system_without_flock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(filelock.SoftFileLock, "_acquire", None)  # it must not even be tried
    with (
        pytest.raises(OSError, match=r"cannot be locked for node_lock.*Function not implemented.*HINT: "),
        node_lock("x"),
    ):
        pass


def test_an_interruption_while_taking_the_lock_leaves_it_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lock, "write", interrupted)
        with pytest.raises(KeyboardInterrupt), node_lock("x"):
            pass
    with node_lock("x", timeout=0):
        pass


def test_nothing_is_logged_where_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "lightning_sagemaker"):
        for _ in range(2):
            with node_lock("x"):
                pass
    assert not caplog.records or {record.name for record in caplog.records} == {"filelock"}
