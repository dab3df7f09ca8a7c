"""``once_per_node`` between real processes."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import processes
from lightning_sagemaker.locking import node_lock, once_per_node
from lightning_sagemaker.locking.once import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Crew

CONTENDERS = (2, 8, 64)
# Only against hangs: the machine of the tests may be busy. benchmarks/suites/locking.py measures.
SOON = 10.0


@pytest.mark.parametrize("count", CONTENDERS)
def test_one_of_all_does_the_work_and_all_get_its_value(crew: Callable[..., Crew], count: int) -> None:
    seen = crew(
        count,
        """
        def work():
            with witness():
                note(f"work {os.getpid()}")
                time.sleep(0.1)
            return {"pid": os.getpid(), "list": [1, 2.5, None, True, "\\u00e9"]}

        def act(index):
            return once_per_node(work, key="tokenizer", timeout=60)
        """,
    )
    assert len(seen.notes) == 1
    worker = int(seen.notes[0].split()[1])
    assert [record.get("value") for record in seen] == [{"pid": worker, "list": [1, 2.5, None, True, "é"]}] * count


@pytest.mark.parametrize("count", [2, 8])
def test_an_error_is_raised_by_all_with_its_text_and_place(crew: Callable[..., Crew], count: int) -> None:
    seen = crew(
        count,
        """
        def work():
            wait_for(lambda: len(os.listdir("/proc/self/task")) == 1)
            time.sleep(0.2)
            note(os.getpid())
            note(time.monotonic())
            raise OSError(28, "No space left", "/opt/ml/x")

        def act(index):
            return once_per_node(work, key="tokenizer", timeout=60)
        """,
    )
    assert len(seen.notes) == 2, "nobody tried again"
    worker, raised = int(seen.notes[0]), float(seen.notes[1])
    assert max(record["end"] for record in seen) - raised < SOON
    for record in seen:
        if record["pid"] == worker:
            assert record["error"] == "OSError"
        else:
            assert record["error"] == "RuntimeError"
            assert record["message"].startswith("once_per_node('tokenizer') failed in another process (")
            assert f"pid {worker} on " in record["message"]
            assert "OSError: [Errno 28] No space left: '/opt/ml/x'\nHINT: " in record["message"]
            assert ", in work\n" in record["message"], "the traceback"


def test_an_error_names_host_and_rank_where_it_happened(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def act(index):
            os.environ.update(RANK=str(8 + index), WORLD_SIZE="16", LOCAL_RANK=str(index), LOCAL_WORLD_SIZE="8")
            os.environ.update(TORCHELASTIC_RUN_ID="x")
            def work():
                time.sleep(0.2)
                raise ValueError(f"from {index}")
            once_per_node(work, key="x", timeout=60)
        """,
    )
    (other,) = (record for record in seen if record["error"] == "RuntimeError")
    failed = 1 - other["index"]
    assert f"(rank {8 + failed}, local rank {failed}, pid {seen[failed]['pid']} on " in other["message"]
    assert f"ValueError: from {failed}" in other["message"]


@pytest.mark.parametrize("ending", ["sys.exit(3)", "raise KeyboardInterrupt('stop')"])
def test_an_exit_in_the_work_ends_the_wait_of_the_others(crew: Callable[..., Crew], ending: str) -> None:
    seen = crew(
        3,
        f"""
        def work():
            time.sleep(0.1)
            {ending}

        def act(index):
            once_per_node(work, key="x", timeout=60)
        """,
    )
    (first,) = (record for record in seen if record["error"] != "RuntimeError")
    others = [record["message"] for record in seen if record is not first]
    assert len(others) == 2
    assert all(f"pid {first['pid']} on " in message and f"): {first['error']}: " in message for message in others)


def test_a_killed_worker_is_replaced_and_the_log_says_by_whom(crew: Callable[..., Crew]) -> None:
    seen = crew(
        8,
        """
        def work():
            with witness():
                note(os.getpid())
                if len((folder / "notes").read_text().splitlines()) <= 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return "made"

        def act(index):
            return once_per_node(work, key="x", timeout=60)
        """,
    )
    first, second, third = map(int, seen.notes)
    assert [record["killed"] for record in seen if "killed" in record] == [-9, -9]
    assert [record["value"] for record in seen.survivors] == ["made"] * 6
    lines = [line for record in seen.survivors for line in record["log"] if "takes over" in line]
    assert len(lines) == 1
    assert f"pid {third} on " in lines[0]
    assert f"pid {second} on " in lines[0]
    assert first not in (second, third)


def test_a_worker_killed_between_its_end_and_the_publication_is_replaced(crew: Callable[..., Crew]) -> None:
    seen = crew(
        4,
        """
        from lightning_sagemaker.locking.once import Outcome
        publish = Outcome.publish

        def dying(self, path):
            if not (folder / "notes").exists():
                note("died")
                os.kill(os.getpid(), signal.SIGKILL)
            publish(self, path)

        Outcome.publish = dying

        def act(index):
            return once_per_node(lambda: os.getpid(), key="x", timeout=60)
        """,
    )
    assert len(seen.survivors) == 3
    assert len({record["value"] for record in seen.survivors}) == 1


def test_a_worker_killed_while_it_writes_the_outcome_leaves_none(crew: Callable[..., Crew]) -> None:
    seen = crew(
        3,
        """
        write = Path.write_text

        def half(path, text, **options):
            if ".outcome" in path.name and not (folder / "notes").exists():
                note("died")
                write(path, text[: len(text) // 2], **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return write(path, text, **options)

        Path.write_text = half

        def act(index):
            return once_per_node(lambda: "made", key="x", timeout=60)
        """,
    )
    assert seen.notes == ["died"]
    assert [record.get("value") for record in seen.survivors] == ["made"] * 2


def test_an_outcome_that_is_written_slowly_appears_complete(crew: Callable[..., Crew]) -> None:
    seen = crew(
        3,
        """
        def slow(path, text, **_):
            with path.open("w", buffering=1) as file:
                for start in range(0, len(text), 20):
                    time.sleep(0.01)
                    file.write(text[start : start + 20])
                    file.flush()

        Path.write_text = slow

        def act(index):
            return once_per_node(lambda: "x" * 300, key="x", timeout=60)
        """,
    )
    assert [record.get("value") for record in seen] == ["x" * 300] * 3


def test_a_worker_killed_after_the_publication_is_not_replaced(crew: Callable[..., Crew]) -> None:
    seen = crew(
        4,
        """
        from lightning_sagemaker.locking.once import Outcome
        publish = Outcome.publish

        def dying(self, path):
            publish(self, path)
            os.kill(os.getpid(), signal.SIGKILL)

        Outcome.publish = dying

        def act(index):
            return once_per_node(lambda: note("work"), key="x", timeout=60)
        """,
    )
    assert seen.notes == ["work"]
    assert [record["value"] for record in seen.survivors] == [None] * 3


def test_retry_tries_again_in_the_same_process_and_tells_the_others_only_the_end(crew: Callable[..., Crew]) -> None:
    seen = crew(
        3,
        """
        def work():
            note(os.getpid())
            if len((folder / "notes").read_text().splitlines()) < 3:
                raise ConnectionError("throttled")
            return "got it"

        def act(index):
            return once_per_node(work, key="x", timeout=60, retry=2)
        """,
    )
    assert len(seen.notes) == 3
    assert len(set(seen.notes)) == 1
    assert [record["value"] for record in seen] == ["got it"] * 3


def test_a_value_that_is_not_json_is_an_error_for_all(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def act(index):
            return once_per_node(lambda: {1, 2}, key="x", timeout=60)
        """,
    )
    assert sorted(record["error"] for record in seen) == ["RuntimeError", "TypeError"]
    for record in seen:
        assert "returned a set, which JSON cannot hold" in record["message"]
        assert "HINT: write the result to a file" in record["message"]


def test_a_value_that_is_too_large_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"100002 bytes of JSON; expected at most 65536. HINT: "):
        once_per_node(lambda: "x" * 100_000, key="x")


def test_the_largest_value_is_told_and_the_longest_error_is_cut() -> None:
    def fail() -> None:
        raise RuntimeError("\U0001f600" * 100_000)

    assert [once_per_node(lambda: "x" * 65_534, key="value") for _ in range(2)] == ["x" * 65_534] * 2
    with pytest.raises(RuntimeError):
        once_per_node(fail, key="error")
    with pytest.raises(RuntimeError, match=r"has already failed in this process \(.*\): RuntimeError: ") as told:
        once_per_node(fail, key="error")
    assert len(str(told.value)) < 11_000


def test_all_processes_get_what_json_makes_of_the_value() -> None:
    values: list[Any] = [once_per_node(lambda: (1, {2: 3}), key="x") for _ in range(2)]
    assert values == [[1, {"2": 3}]] * 2


def test_an_error_that_cannot_even_be_shown_is_told(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        class Odd(Exception):
            def __str__(self):
                raise KeyError
            __repr__ = __str__

        def act(index):
            def work():
                time.sleep(0.1)
                raise Odd
            try:
                once_per_node(work, key="x", timeout=60)
            except Odd:
                return "mine"
        """,
    )
    (other,) = (record for record in seen if "error" in record)
    assert "Odd: <" in other["message"]  # in the words of each Python


def test_done_work_is_not_done_again_by_whoever_comes_later(crew: Callable[..., Crew]) -> None:
    scene = """
        def act(index):
            return once_per_node(lambda: note("work"), key="x", timeout=60)
        """
    assert crew(1, scene).notes == ["work"]
    assert crew(2, scene).notes == []


def test_a_failure_is_not_tried_again_by_the_same_processes_but_by_later_ones(crew: Callable[..., Crew]) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        once_per_node(fail, key="x")
    with pytest.raises(RuntimeError, match=r"has already failed in this process \(.*\): ConnectionError: down"):
        once_per_node(fail, key="x")
    assert len(calls) == 1
    later = crew(2, 'def act(index):\n    return once_per_node(lambda: note("work"), key="x", timeout=60)')
    assert later.notes == ["work"]
    assert once_per_node(fail, key="x") is None


def test_work_that_was_interrupted_is_done_when_the_same_process_calls_again() -> None:
    """Ctrl-C in a notebook's cell, which is then run again."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once_per_node(interrupt, key="x")
    assert once_per_node(lambda: 1, key="x") == 1


def test_other_keys_are_other_work() -> None:
    keys = ["a", "A", "a b", "a_b", "a/b", "../a", "\udcff", "x" * 1000]
    assert [once_per_node(partial(repr, key), key=key) for key in keys] == [repr(key) for key in keys]


def test_a_node_lock_of_the_same_name_is_another_lock() -> None:
    with node_lock("x"):
        assert once_per_node(lambda: 1, key="x", timeout=1) == 1


def test_the_work_that_enters_itself_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"once_per_node\('x'\) is entered again by the thread that holds it"):
        once_per_node(lambda: once_per_node(lambda: 1, key="x"), key="x")


def test_threads_of_one_process_share_one_piece_of_work() -> None:
    calls, values = [], []
    lock = threading.Lock()

    def work() -> int:
        with lock:
            calls.append(1)
        time.sleep(0.05)
        return 7

    threads = [threading.Thread(target=lambda: values.append(once_per_node(work, key="x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert calls == [1]
    assert values == [7] * 8


def test_the_decorator_form_does_the_work_when_called_and_keeps_the_function_s_name() -> None:
    calls = []

    @once_per_node(key="x", timeout=5)
    def download() -> str:
        """Get it."""
        calls.append(1)
        return "path"

    assert calls == []
    assert [download(), download()] == ["path", "path"]
    assert calls == [1]
    assert (download.__name__, download.__doc__) == ("download", "Get it.")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"key": ""}, ValueError, "empty string"),
        ({"key": 3}, TypeError, "expected a string"),
        ({"key": "x", "timeout": -1}, ValueError, "0 or more seconds"),
        ({"key": "x", "timeout": math.nan}, ValueError, "0 or more seconds"),
        ({"key": "x", "timeout": None}, TypeError, "expected seconds"),
        ({"key": "x", "timeout": True}, TypeError, "expected seconds"),
        ({"key": "x", "retry": -1}, ValueError, "0 or more"),
        ({"key": "x", "retry": 1.5}, TypeError, "whole number"),
    ],
)
def test_wrong_arguments_are_named_before_anything_happens(
    arguments: dict[str, Any], error: type[Exception], text: str, run_of_its_own: Path
) -> None:
    with pytest.raises(error, match=rf"{text}.*HINT: "):
        once_per_node(lambda: None, **arguments)
    assert not list(run_of_its_own.rglob("*.outcome"))


def test_what_is_no_function_is_named() -> None:
    with pytest.raises(TypeError, match=r"got 'x'; expected a function. HINT: "):
        once_per_node("x", key="x")  # type: ignore[call-overload]


def test_an_outcome_that_nobody_wrote_is_an_error(run_of_its_own: Path) -> None:
    once_per_node(lambda: 1, key="x")
    (path,) = run_of_its_own.rglob("*.outcome")
    path.write_text('{"value": 2}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"is not an outcome as this package writes it.*HINT: "):
        once_per_node(lambda: 1, key="x")


def test_nothing_but_json_lies_in_the_folder(run_of_its_own: Path) -> None:
    once_per_node(lambda: [1], key="x")
    (path,) = run_of_its_own.rglob("*.outcome")
    assert json.loads(path.read_bytes())["value"] == [1]
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0


def test_a_failure_to_publish_does_not_hide_the_work_s_own_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Outcome, "publish", fail)
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        once_per_node(lambda: 1 / 0, key="x")
    assert "the others cannot be told" in caplog.text


def test_this_process_was_born_before_now() -> None:
    assert 0 < processes.born() < processes.clock()


def test_other_processes_are_told_of_an_error_without_secrets() -> None:
    secret = "hun" + "ter2"
    told = Outcome.of(ValueError(f"cannot reach postgresql://me:{secret}@db:5432"))
    assert told.error == "ValueError: cannot reach postgresql://***@db:5432"
    assert secret not in told.traceback
