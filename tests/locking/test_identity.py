"""Who sees whose locks: the processes of one run of one job on one host, and nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker import processes
from lightning_sagemaker.locking import directory, once_per_node
from lightning_sagemaker.locking.directory import Process, run_stem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Crew

ASK = "import os as system; from lightning_sagemaker.locking.directory import run_stem as run; "
ASK += "system.write(1, f'{run()} '.encode())\n"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Be a process of a job, and return its run."""

    def run(*, name: str = "digits-1", host: str = "algo-1", base: str = "ml") -> str:
        config = tmp_path / base / "input/config"
        config.mkdir(parents=True, exist_ok=True)
        content = {"current_host": host, "hosts": ["algo-1", "algo-2"]}
        (config / "resourceconfig.json").write_text(json.dumps(content), encoding="utf-8")
        monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / base))
        monkeypatch.setenv("TRAINING_JOB_NAME", name)
        monkeypatch.delenv("LIGHTNING_SAGEMAKER_RUN_ID", raising=False)
        return run_stem()

    return run


def test_a_job_s_run_is_the_same_in_all_its_processes_and_readable(job: Callable[..., str]) -> None:
    mine = job()
    assert mine.startswith("digits-1-algo-1-")
    assert [ask() for _ in range(2)] == [mine] * 2
    assert [ask(launched=True) for _ in range(2)] == [mine] * 2


def test_another_job_host_or_simulated_machine_is_another_run(job: Callable[..., str]) -> None:
    runs = [job(), job(name="digits-2"), job(host="algo-2"), job(base="other")]
    assert len(set(runs)) == 4
    assert job() == runs[0]


@pytest.mark.parametrize("what", ["boot", "first process", "namespace"])
def test_a_new_container_of_the_same_job_is_another_run(
    job: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    def pretend(boot: str, first: str, namespace: str) -> str:
        proc = tmp_path / f"proc-{boot}-{first}-{namespace}"
        for folder in ("sys/kernel/random", "1", "self/ns"):
            (proc / folder).mkdir(parents=True, exist_ok=True)
        (proc / "sys/kernel/random/boot_id").write_text(f"{boot}\n", encoding="ascii")
        (proc / "1/stat").write_text(f"1 (a ) b) S 0 {'0 ' * 17}{first} 0 0\n", encoding="ascii")
        if not (proc / "self/ns/pid").is_symlink():
            (proc / "self/ns/pid").symlink_to(f"pid:[{namespace}]")
        monkeypatch.setattr(processes, "PROC", proc)
        return job()

    first = pretend("b1", "10", "4026")
    assert pretend("b1", "10", "4026") == first
    changed = {"boot": ("b2", "10", "4026"), "first process": ("b1", "11", "4026"), "namespace": ("b1", "10", "4027")}
    assert pretend(*changed[what]) != first


def test_a_new_attempt_ignores_what_the_old_one_left(job: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    job()
    assert once_per_node(lambda: "first", key="x") == "first"
    with monkeypatch.context() as later:
        later.setattr(processes, "container", lambda: "restarted")
        assert once_per_node(lambda: "second", key="x") == "second"
    job(name="digits-2")
    assert once_per_node(lambda: "third", key="x") == "third"
    job()
    assert once_per_node(lambda: "fourth", key="x") == "first"


def test_outside_jobs_two_commands_are_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_RUN_ID")
    assert len({ask(), ask(), run_stem()}) == 3


def test_outside_jobs_what_a_launcher_starts_is_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_RUN_ID")
    # This process is the launcher: it has no rank, what it starts has.
    assert ask(launched=True) == ask(launched=True) == run_stem()


def test_outside_jobs_what_a_lightning_script_starts_belongs_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_RUN_ID")
    script = f"""
        import os, subprocess, sys
        {ASK.strip()}
        os.environ["LOCAL_RANK"] = "0"
        {ASK.strip()}
        subprocess.run([sys.executable, "-c", {ASK!r}], env={{**os.environ, "LOCAL_RANK": "1"}}, check=True)
        """
    seen = [run_python(script).split() for _ in range(2)]
    assert [len(set(each)) for each in seen] == [1, 1]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_outside_jobs_multiprocessing_belongs_to_its_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str
) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_RUN_ID")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, os

            def grandchild():
                {ASK.strip()}

            def child(rank):
                os.environ["LOCAL_RANK"] = str(rank)
                {ASK.strip()}
                process = multiprocessing.get_context("{method}").Process(target=grandchild)
                process.start()
                process.join()

            if __name__ == "__main__":
                processes = [multiprocessing.get_context("{method}").Process(target=child, args=(i,)) for i in (0, 1)]
                [process.start() for process in processes]
                [process.join() for process in processes]
                {ASK.strip()}
            """
        ),
        encoding="utf-8",
    )
    seen = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout.split()
    assert len(seen) == 5
    assert len(set(seen)) == 1


def test_torchrun_s_workers_are_one_run_and_not_their_launcher_s_parent_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_RUN_ID")
    script = tmp_path / "script.py"
    script.write_text(ASK, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert seen[0] != run_stem(), "the next torchrun is another run"


def test_a_run_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RUN_ID", "night 1")
    mine = run_stem()
    assert mine.startswith("night_1-")
    assert ask() == ask(launched=True) == mine
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RUN_ID", "night 2")
    assert run_stem() != mine


def test_without_proc_the_start_of_a_process_is_asked_of_ps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    start = processes.start_of(os.getpid())
    assert start is not None
    assert start == processes.start_of(os.getpid())
    assert processes.born() == processes._imported
    assert processes.run_leader.__wrapped__() == (os.getpid(), start)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert processes.run_leader.__wrapped__()[0] == os.getppid()


def test_a_run_that_nothing_identifies_is_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"cannot be told which processes belong to this run.*HINT: set LIGHTNING_SAG"
    ):
        processes.run_leader.__wrapped__()


def test_a_process_is_named_by_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    me = Process.me()
    assert str(me) == f"pid {os.getpid()} on {me.host}"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert str(Process.me()) == f"local rank 3, pid {os.getpid()} on {me.host}"
    assert str(replace(me, pid=1, host="algo-2", rank=9, local_rank=1)) == "rank 9, local rank 1, pid 1 on algo-2"


def test_variables_that_nobody_can_read_cost_only_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "many")
    assert Process.me().local_rank is None


def test_file_names_are_readable_safe_and_different() -> None:
    names = ["a", "A", "a/b", "a_b", "..", "-x", "", "é", "\udcff", "x" * 300]
    stems = [directory.file_stem(name) for name in names]
    assert len({stem.lower() for stem in stems}) == len(names)
    assert all(len(stem) < 100 and "/" not in stem and not stem.startswith(".") for stem in stems)
    assert stems[2].startswith("a_b-")


def test_simulated_hosts_do_not_see_each_other_s_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both hosts are kept inside the work at the same time: they would wait for ever for each other if they shared it.
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from pathlib import Path
            from lightning_sagemaker.job import SageMakerJob
            from lightning_sagemaker.locking import node_lock, once_per_node
            folder, host = Path(sys.argv[1]), SageMakerJob.detect().current_host

            def work():
                (folder / host).touch()
                deadline = time.monotonic() + 60
                while len(list(folder.iterdir())) < 2:
                    assert time.monotonic() < deadline, "the other host was kept out"
                    time.sleep(0.01)
                return host

            with node_lock("data"):
                assert once_per_node(work, key="x") == host
            """
        ),
        encoding="utf-8",
    )
    (tmp_path / "seen").mkdir()
    for name in ("LIGHTNING_SAGEMAKER_LOCK_DIR", "LIGHTNING_SAGEMAKER_RUN_ID"):
        monkeypatch.delenv(name)
    command = [sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--distribution", "none", "--hosts", "2"]
    command += ["--processes-per-host", "1", "--env", f"LIGHTNING_SAGEMAKER_LOCK_DIR={tmp_path / 'locks'}"]
    command += [str(script), "--", str(tmp_path / "seen")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"algo-1", "algo-2"}


def test_contenders_without_a_run_id_are_one_run_where_one_process_forked_them(crew: Callable[..., Crew]) -> None:
    seen = crew(
        4,
        """
        del os.environ["LIGHTNING_SAGEMAKER_RUN_ID"]
        def act(index):
            return once_per_node(os.getpid, key="x", timeout=60)
        """,
    )
    assert len({record["value"] for record in seen}) == 1


def ask(*, launched: bool = False) -> str:
    """The run of a new process, started by hand or as a launcher starts it."""
    return run_python(ASK, {"LOCAL_RANK": "0"} if launched else {}).strip()


def run_python(program: str, env: dict[str, str] | None = None) -> str:
    """What a program prints."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr
    return done.stdout
