"""Forks inside the guarded code: errors or safe, never deadlocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Crew


def test_a_child_forked_in_the_body_does_not_keep_the_lock_of_its_killed_parent(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def act(index):
            if index == 1:
                wait_for((folder / "forked").exists)
                with node_lock("x", timeout=20):
                    assert (folder / "child").exists()
                    os.kill(int((folder / "child").read_text()), 0)  # it still runs
                os.kill(int((folder / "child").read_text()), signal.SIGKILL)
                return "in"
            with node_lock("x", timeout=20):
                if os.fork() == 0:
                    (folder / "child").write_text(str(os.getpid()))
                    (folder / "forked").touch()
                    time.sleep(60)
                    os._exit(0)
                wait_for((folder / "forked").exists)
                os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert seen[0]["killed"] == -9
    assert seen[1].get("value") == "in", seen[1]


def test_a_child_that_ends_in_the_body_leaves_the_lock_to_its_parent(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def act(index):
            if index == 1:
                wait_for((folder / "ended").exists)
                try:
                    with node_lock("x", timeout=0.3):
                        return "in, though it was held"
                except TimeoutError as error:
                    note(error)
                    (folder / "tried").touch()
                with node_lock("x", timeout=20):
                    return "in, when it was free"
            with node_lock("x", timeout=20):
                pid = os.fork()
                if pid == 0:
                    return "the child comes out of the body"
                os.waitpid(pid, 0)
                (folder / "ended").touch()
                wait_for((folder / "tried").exists)
            return "the parent"
        """,
    )
    assert [record.get("value") for record in seen] == ["the parent", "in, when it was free"]
    assert f" for pid {seen[0]['pid']} on " in seen.notes[0], "the parent's record is the parent's"


def test_a_child_that_waits_for_its_own_parent_is_told_so(crew: Callable[..., Crew]) -> None:
    seen = crew(
        1,
        """
        def act(index):
            with node_lock("x", timeout=20):
                pid = os.fork()
                if pid == 0:
                    try:
                        with node_lock("x", timeout=20):
                            note("in")
                    except RuntimeError as error:
                        note(error)
                    os._exit(0)
                os.waitpid(pid, 0)
            with node_lock("x", timeout=0):
                return "free again"
        """,
    )
    assert len(seen.notes) == 1
    assert "was forked from its holder" in seen.notes[0]
    assert "HINT: fork before or after the guarded code" in seen.notes[0]
    assert seen[0]["end"] - seen[0]["start"] < 15
    assert seen[0]["value"] == "free again"


def test_a_child_takes_the_lock_once_its_parent_is_out(crew: Callable[..., Crew]) -> None:
    seen = crew(
        1,
        """
        def act(index):
            with node_lock("x", timeout=20):
                pid = os.fork()
                if pid == 0:
                    wait_for((folder / "out").exists)
                    with node_lock("x", timeout=20):
                        note("in")
                    os._exit(0)
            (folder / "out").touch()
            os.waitpid(pid, 0)
        """,
    )
    assert seen.notes == ["in"]


def test_the_work_may_fork_and_a_child_that_comes_out_of_it_fails_alone(crew: Callable[..., Crew]) -> None:
    seen = crew(
        3,
        """
        def work():
            pid = os.fork()
            if pid == 0:
                return "the child's"
            os.waitpid(pid, 0)
            time.sleep(0.1)
            return "the parent's"

        def act(index):
            return once_per_node(work, key="x", timeout=60)
        """,
    )
    assert [record.get("value") for record in seen] == ["the parent's"] * 3
    (child,) = seen.folder.glob("*-child.json")
    assert "was forked inside the work and came out of it" in child.read_text(encoding="utf-8")


def test_a_child_that_fails_in_the_work_publishes_nothing(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        def work():
            pid = os.fork()
            if pid == 0:
                raise ValueError("the child's")
            os.waitpid(pid, 0)
            time.sleep(0.1)
            return "the parent's"

        def act(index):
            return once_per_node(work, key="x", timeout=60)
        """,
    )
    assert [record.get("value") for record in seen] == ["the parent's"] * 2


def test_multiprocessing_inside_the_work_is_safe(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        import multiprocessing

        def work():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return pool.map(abs, [-1, -2])

        def act(index):
            return once_per_node(work, key="x", timeout=60)
        """,
    )
    assert [record.get("value") for record in seen] == [[1, 2]] * 2


def test_processes_forked_from_one_that_had_the_work_done_get_its_value(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        """
        once_per_node(lambda: note("work"), key="x")

        def act(index):
            del os.environ["LIGHTNING_SAGEMAKER_RUN_ID"]
            return once_per_node(lambda: note("work"), key="y", timeout=60)
        """,
    )
    assert seen.notes == ["work", "work"]
