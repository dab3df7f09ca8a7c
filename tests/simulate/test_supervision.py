"""What happens when something breaks, is ended, or prints a lot: with real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from .helpers import alive, command, environment, run_cli, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Every rank says who it is; the one that is told to breaks, the others would go on for minutes.
SCRIPT = """\
import os, signal, sys, time
rank = os.environ.get("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", os.environ["SM_CURRENT_HOST"][-1]))
way, who = sys.argv[1:3]
print("here is", rank, flush=True)
open(os.path.join(os.environ["READY"], rank), "w").write(str(os.getpid()))
if way == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf is", rank, flush=True)
while len(os.listdir(os.environ["READY"])) < int(os.environ["EXPECTED"]):
    time.sleep(0.02)
if rank == who:
    if way == "raise":
        raise RuntimeError("the reason is 42")
    if way == "exit":
        sys.exit(7)
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
time.sleep(300)
"""
LAUNCHERS = {"none": 2, "torch_distributed": 4, "smdistributed": 4}
TWO_BY_TWO = ("--hosts", "2", "--processes-per-host", "2")


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    folder = tmp_path / "ready"
    folder.mkdir()
    return folder


def options(distribution: str, ready: Path) -> list[str]:
    shape = [*TWO_BY_TWO, "--distribution", distribution, "--env", f"READY={ready}"]
    return [*shape, "--env", f"EXPECTED={LAUNCHERS[distribution]}"]


def gone(*marks: Path) -> bool:
    return not [line for mark in marks for line in alive(str(mark))]


@pytest.mark.parametrize(
    ("distribution", "way", "who", "code", "told"),
    [
        ("none", "raise", "2", 1, "the job failed on algo-2, exit code 1:"),
        ("none", "exit", "1", 7, "the job failed on algo-1, exit code 7:"),
        ("none", "kill", "2", 137, "the job failed on algo-2, exit code 137:"),
        ("torch_distributed", "raise", "3", 1, "the job failed on algo-1, rank 3, exit code 1:"),
        ("torch_distributed", "kill", "2", 137, "the job failed on algo-1, rank 2, exit code 137:"),
        ("smdistributed", "raise", "1", 1, "the job failed on algo-2, rank 1, exit code 1:"),
        ("smdistributed", "exit", "2", 7, "the job failed on algo-1, rank 2, exit code 7:"),
        ("smdistributed", "kill", "3", 137, "the job failed on algo-1, rank 3, exit code 137:"),
    ],
)
def test_a_failing_rank_ends_the_job_with_its_code_and_its_error_last(
    *,
    distribution: str,
    way: str,
    who: str,
    code: int,
    told: str,
    script: Callable[[str], Path],
    ready: Path,
    tmp_path: Path,
) -> None:
    path, job = script(SCRIPT), tmp_path / "job"
    done = run_cli(*options(distribution, ready), "--work-dir", str(job), str(path), "--", way, who)
    broke = (ready / who).stat().st_mtime
    assert done.returncode == code, done.stderr
    assert time.time() - broke < 30
    head, _, error = done.stderr.rpartition("simulate: ")
    assert error.splitlines()[0] == told
    assert f"ended after {head.rpartition('ended after ')[2].split()[0]} s with exit code {code}" in head
    if way == "raise":
        assert done.stderr.splitlines()[-1] == "  RuntimeError: the reason is 42"
    assert gone(path.parent, job)


@pytest.mark.parametrize(
    ("distribution", "number", "code"),
    [
        ("none", signal.SIGINT, 130),
        ("none", signal.SIGTERM, 143),
        ("none", signal.SIGQUIT, 131),
        ("torch_distributed", signal.SIGINT, 130),
        ("smdistributed", signal.SIGINT, 130),
        ("smdistributed", signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_everything(
    *,
    distribution: str,
    number: signal.Signals,
    code: int,
    script: Callable[[str], Path],
    ready: Path,
    tmp_path: Path,
) -> None:
    path, job = script(SCRIPT), tmp_path / "job"
    started = subprocess.Popen(
        command(*options(distribution, ready), "--work-dir", str(job), str(path), "--", "sleep", "-"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(list(ready.iterdir())) == LAUNCHERS[distribution], "all ranks are there")
    sent = time.monotonic()
    started.send_signal(number)
    _, err = started.communicate(timeout=60)
    assert started.returncode == code, err
    assert time.monotonic() - sent < 20
    assert f"with exit code {code}" in err
    assert gone(path.parent, job)


@pytest.mark.parametrize("moment", ["folder", "leader", "here is"])
def test_a_signal_at_any_moment_leaves_no_temporary_folder(
    moment: str, script: Callable[[str], Path], ready: Path, tmp_path: Path
) -> None:
    path, temporary, printed = script(SCRIPT), tmp_path / "temporary", tmp_path / "printed"
    temporary.mkdir()
    for word in range(200 if moment == "folder" else 1):  # so that the set-up takes a while
        (path.parent / f"{word}.txt").write_text("x" * 100_000)
    with printed.open("w") as out:
        started = subprocess.Popen(
            command(*options("smdistributed", ready), str(path), "--", "sleep", "-"),
            env=environment(TMPDIR=str(temporary)),
            stdout=out,
            stderr=out,
        )
    if moment == "folder":
        while not list(temporary.glob("sagemaker-*")):
            assert started.poll() is None
    else:
        wait_until(lambda: moment in printed.read_text(), moment)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=60) == 143
    assert not list(temporary.iterdir())
    assert gone(path.parent, temporary)


@pytest.mark.parametrize("distribution", LAUNCHERS)
def test_ranks_that_ignore_sigterm_are_killed_after_the_grace(
    distribution: str,
    script: Callable[[str], Path],
    ready: Path,
    tmp_path: Path,
) -> None:
    path, job = script(SCRIPT), tmp_path / "job"
    wanted = [*options(distribution, ready), "--grace", "1", "--work-dir", str(job), str(path), "--", "deaf", "-"]
    with (tmp_path / "out").open("w") as out:
        started = subprocess.Popen(command(*wanted), env=environment(), stdout=out, stderr=subprocess.DEVNULL)
    count = LAUNCHERS[distribution]
    wait_until(lambda: (tmp_path / "out").read_text().count("deaf is") == count, "all ranks are deaf")
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=30) == 143
    assert gone(path.parent, job)


def test_a_second_signal_does_not_wait_for_the_grace(
    script: Callable[[str], Path], ready: Path, tmp_path: Path
) -> None:
    path = script(SCRIPT)
    wanted = [
        *options("none", ready),
        "--grace",
        "250",
        "--work-dir",
        str(tmp_path / "job"),
        str(path),
        "--",
        "deaf",
        "-",
    ]
    with (tmp_path / "out").open("w") as out:
        started = subprocess.Popen(command(*wanted), env=environment(), stdout=out, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "out").read_text().count("deaf is") == 2, "both hosts are deaf")
    started.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(timeout=1)
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=30) == 130
    assert gone(path.parent)


def test_what_a_rank_leaves_behind_ends_with_the_job(script: Callable[[str], Path], tmp_path: Path) -> None:
    text = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', {!r}],"
    path = script(text.format(str(tmp_path)) + " start_new_session=True)")
    assert run_cli("--hosts", "2", str(path)).returncode == 0
    assert gone(tmp_path)


def test_a_process_that_only_knows_the_folder_of_the_run_is_none_of_it(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    """An editor, a shell or a debugger in which somebody looks at a host's files with the host's variables."""
    folder = tmp_path / "job"
    host = {"SAGEMAKER_BASE_DIR": f"{folder.resolve()}/algo-1/ml", "TMPDIR": str(folder), "TRAINING_JOB_NAME": "x"}
    editor = subprocess.Popen(["sleep", "60"], env={**environment(), **host})  # noqa: S607
    try:
        # What has left its process group ends all the same, also where its leader has been waited for.
        orphan = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', {str(tmp_path)!r}]"
        path = script(f"import subprocess, sys\n{orphan})\n{orphan}, start_new_session=True)\n")
        assert run_cli("--work-dir", str(folder), str(path)).returncode == 0
        assert editor.poll() is None
        assert gone(tmp_path)
    finally:
        editor.kill()
        editor.wait()


@pytest.mark.parametrize("distribution", ["none", "smdistributed", "torch_distributed"])
def test_lines_are_whole_however_long_and_many(distribution: str, script: Callable[[str], Path]) -> None:
    path = script(
        "import os, sys\n"
        "me = os.environ.get('RANK', os.environ.get('OMPI_COMM_WORLD_RANK', os.environ['SM_CURRENT_HOST'][-1]))\n"
        "for index in range(300):\n"
        "    print('<', me * 50, index, '>')\n"
        "    print('{', me * 50, index, '}', file=sys.stderr)\n"
        "print('<', me * 300_000, '>')\n"
        "print('<', me, 'no newline', '>', end='')\n",
    )
    done = run_cli(*TWO_BY_TWO, "--distribution", distribution, str(path))
    assert done.returncode == 0, done.stderr
    who = r"\[algo-\d\]" if distribution == "none" else r"\[algo-\d rank \d\]"
    line = re.compile(rf"{who} < (\d)(\1*) (?:\d+|no newline)? ?>")
    broken = [text[:200] for text in done.stdout.splitlines() if not line.fullmatch(text)]
    assert not broken
    count = LAUNCHERS[distribution]
    assert len(done.stdout.splitlines()) == count * 302
    assert max(map(len, done.stdout.splitlines())) > 300_000
    errors = [text for text in done.stderr.splitlines() if "{" in text]
    assert len(errors) == count * 300
    assert all(re.fullmatch(rf"{who} {{ (\d)\1* \d+ }}", text) for text in errors)


def test_processes_that_share_a_hosts_output_do_not_break_each_others_lines(script: Callable[[str], Path]) -> None:
    # As Lightning starts them without a launcher: children that inherit the output.
    path = script(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, *sys.argv, 'child']) if len(sys.argv) == 1 else None\n"
        "mark = os.environ['TMPDIR'] + '/both'\n"
        "child or open(mark, 'w')\n"
        "while not os.path.exists(mark):\n"
        "    pass\n"
        "for index in range(2000):\n"
        "    print('<', 'child' if child is None else 'main', index, '>')\n"
        "child is None or child.wait()\n",
    )
    done = run_cli(*TWO_BY_TWO, str(path))
    assert done.returncode == 0, done.stderr
    broken = [text for text in done.stdout.splitlines() if not re.fullmatch(r"\[algo-\d\] < (main|child) \d+ >", text)]
    assert not broken
    assert len(done.stdout.splitlines()) == 8000


def test_the_environments_own_sitecustomize_still_runs(script: Callable[[str], Path]) -> None:
    path = script("import builtins\nprint('mark', builtins.mark)")
    (path.parent / "sitecustomize.py").write_text("import builtins\nbuiltins.mark = 5\n")
    done = run_cli("--processes-per-host", "2", str(path))
    assert "[algo-1] mark 5" in done.stdout, done.stderr


@pytest.mark.parametrize("distribution", ["none", "smdistributed"])
def test_arguments_arrive_as_given(distribution: str, script: Callable[[str], Path]) -> None:
    path = script("import sys\nprint(sys.argv[1:])")
    arguments = ["--name", "a b  c", "--dash=-- x", "--flag", "-1", "$HOME", "it's", "", "--", "*"]
    done = run_cli("--distribution", distribution, str(path), "--", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(str(arguments))


def test_a_progress_bar_leaves_its_last_state(script: Callable[[str], Path]) -> None:
    path = script("import sys\nfor n in range(100):\n    sys.stdout.write(f'\\r{n} %')\nprint('\\rdone')")
    assert run_cli(str(path)).stdout == "[algo-1] done\n"


def test_a_reader_that_goes_away_ends_the_job(script: Callable[[str], Path], tmp_path: Path) -> None:
    path = script("while True:\n    print('again and again', flush=True)")
    started = subprocess.Popen(
        command("--work-dir", str(tmp_path / "job"), str(path)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert started.stdout is not None
    started.stdout.readline()
    started.stdout.close()
    assert started.wait(timeout=30) == 141
    assert gone(path.parent)


def test_a_terminal_gets_a_live_status_that_leaves_lines_alone(script: Callable[[str], Path]) -> None:
    pty = pytest.importorskip("pty")
    path = script("import time\nfor n in range(12):\n    print('line', n, flush=True)\n    time.sleep(0.2)")
    main, terminal = pty.openpty()
    started = subprocess.Popen(command(str(path)), env=environment(TERM="xterm"), stdout=terminal, stderr=terminal)
    os.close(terminal)
    written = b""
    while True:
        try:
            written += os.read(main, 65536)
        except OSError:
            break
        if not written:
            break
    assert started.wait(timeout=30) == 0
    text = written.decode().replace("\r\n", "\n")
    assert re.search(r"1 of 1 hosts up \| 0:0[1-9]", text)
    # A terminal shows what follows the last erasure of a line.
    shown = [line.rpartition("\x1b[2K")[2] for line in text.split("\n")]
    assert [line for line in shown if line.startswith("[algo-1]")] == [f"[algo-1] line {n}" for n in range(12)]


def test_a_failed_jobs_files_are_removed_unless_kept_and_the_model_and_the_failure_file_are_told(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = script(
        "import os, sys\nopen(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('x')\n"
        "open(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('out of data\\n' + '.' * 2000)\nsys.exit(3)"
    )
    env = environment(TMPDIR=str(tmp_path))
    done = run_cli(str(path), env=env)
    assert "files removed (--keep keeps them)" in done.stderr
    assert f"which the job's page shows:\n  out of data\n  {'.' * 1012}\n" in done.stderr
    assert not list(tmp_path.glob("sagemaker-*"))
    done = run_cli("--keep", str(path), env=env)
    (model,) = tmp_path.glob("sagemaker-*/algo-1/ml/model")
    assert (model / "m").read_text() == "x"
    assert f"algo-1 wrote a model: {model}" in done.stderr


def test_the_report_of_a_failure_is_without_secrets(script: Callable[[str], Path]) -> None:
    secret = "hun" + "ter2 x"
    path = script(f"def login(token): raise ValueError('see any words')\nlogin(token='{secret}')")
    done = run_cli("--env", "TEAM_SECRET=any words", str(path))
    report = done.stderr.rpartition("simulate: ")[2]
    assert "login(token='***')" in report
    assert report.endswith("ValueError: see ***\n")


def test_a_succeeded_jobs_temporary_files_are_removed_unless_kept(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = script("")
    env = environment(TMPDIR=str(tmp_path))
    assert run_cli(str(path), env=env).returncode == 0
    assert not list(tmp_path.glob("sagemaker-*"))
    assert run_cli("--keep", str(path), env=env).returncode == 0
    assert list(tmp_path.glob("sagemaker-*/algo-1/ml/model"))


def test_ranks_that_send_their_output_to_a_file_go_on(script: Callable[[str], Path], tmp_path: Path) -> None:
    path = script(
        "import os, sys, time\n"
        "kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "os.dup2(kept, 1), os.dup2(kept, 2)\n"
        "time.sleep(14)\n"  # mpirun is given 10 s after its ranks
        "print('trained', flush=True)\n"
    )
    done = run_cli("--hosts", "2", "--launcher", "mpirun", str(path), "--", str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text() == "trained\n" * 2


def test_what_is_no_utf_8_and_folders_with_blanks_reach_the_ranks_of_mpirun(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = script("import os\nprint(os.environb[b'NAME'], os.environ['TMPDIR'])")
    (tmp_path / "a b").mkdir()
    env = environment(TMPDIR=str(tmp_path / "a b"), NAME="caf\udce9")
    done = run_cli("--hosts", "2", "--launcher", "mpirun", str(path), env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"b'caf\\xe9' {tmp_path / 'a b'}/sagemaker-") == 2
    assert not list((tmp_path / "a b").iterdir())


def test_a_terminal_that_is_closed_ends_the_job_and_its_deaf_processes(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    pty = pytest.importorskip("pty")
    path = script(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"command = [sys.executable, '-c', 'import time; time.sleep(300)', {str(tmp_path)!r}]\n"
        "os.fork() or os.execv(sys.executable, command)\n"
        "while True:\n    os.write(1, b'here\\n')\n    time.sleep(0.01)\n"
    )
    (tmp_path / "temporary").mkdir()
    # Its own session, with the terminal, as a shell's is.
    before = (
        "import fcntl, os, sys, termios\nos.setsid()\nfcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, sys.argv[1:])"
    )
    main, terminal = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-c", before, *command("--hosts", "2", "--grace", "1", str(path))],
        env=environment(TMPDIR=str(tmp_path / "temporary")),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b""
    while written.count(b"] here") < 10:
        written += os.read(main, 65536)
    os.close(main)
    assert started.wait(timeout=60) == 129
    assert gone(tmp_path)
    assert not list((tmp_path / "temporary").iterdir())


def test_what_nohup_started_goes_on_without_its_terminal(script: Callable[[str], Path], tmp_path: Path) -> None:
    here = tmp_path / "here"
    path = script(
        "import os, sys, time\nopen(sys.argv[1], 'w')\nwhile os.path.exists(sys.argv[1]):\n    time.sleep(0.02)"
    )
    started = subprocess.Popen(
        ["nohup", *command(str(path), "--", str(here))],  # noqa: S607
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(here.exists, "the script runs")
    started.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(timeout=1)
    here.unlink()
    assert started.wait(timeout=60) == 0


def test_a_simulation_that_a_rank_starts_has_ranks_of_its_own(script: Callable[[str], Path]) -> None:
    of_the_rank = {"LIGHTNING_SAGEMAKER_RANK_PROCESS": "1 0123456789abcdef", "LIGHTNING_SAGEMAKER_FOREIGN_RANK": "0"}
    path = script(f"import os\nprint({set(of_the_rank)} & os.environ.keys())")
    done = run_cli(str(path), env=environment(**of_the_rank))
    assert done.stdout == "[algo-1] set()\n", done.stderr
