"""A spot job on this machine: its hosts are taken away, and it starts again with its checkpoints and nothing else."""

from __future__ import annotations

import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from .helpers import alive, command, environment, run_cli, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each host adds a file to its checkpoints; the first start then waits for its end, the second one ends by itself.
SCRIPT = """\
import json, os, signal, sys, time
base, host = os.environ["SAGEMAKER_BASE_DIR"], os.environ["CURRENT_HOST"]
kept = json.load(open(base + "/input/config/checkpointconfig.json"))["LocalPath"]
found = sorted(name for name in os.listdir(kept) if name != "ended")
print("job", os.environ["TRAINING_JOB_NAME"], "found", *found, "scratch", os.path.exists("/".join([base, "scratch"])))
sys.stdout.flush()
def end(*_):
    print("saved", file=sys.stderr, flush=True)
    open(kept + "/ended", "w").write(host)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(kept + "/" + host, "w").write("1")
open(base + "/scratch", "w").write("1")
if not found:
    time.sleep(300)
"""


@pytest.mark.parametrize(
    ("launcher", "leaders"),
    [("torchrun", ["algo-2", "algo-1"]), ("mpirun", ["algo-2", "algo-1"]), ("none", ["algo-1", "algo-1"])],
)
def test_a_job_that_is_killed_starts_again_as_the_same_job_on_new_hosts_with_its_checkpoints(
    launcher: str, leaders: list[str], script: Callable[[str], Path], tmp_path: Path
) -> None:
    path, kept = script(SCRIPT), tmp_path / "kept"
    kept = tmp_path / "job/checkpoints" if launcher == "none" else kept  # that of a job without --checkpoints
    options = ["--hosts", "2", "--launcher", launcher, "--work-dir", str(tmp_path / "job")]
    if launcher != "none":
        options += ["--checkpoints", str(kept)]
    # torchrun is imported first, on a busy machine for long.
    options += ["--interrupt-after", "25" if launcher == "torchrun" else "8"]
    done = run_cli(*options, "--restart", str(path))
    assert done.returncode == 0, done.stderr
    told = re.findall(r"job (\S+) found(.*) scratch (\S+)", done.stdout)
    assert len({name for name, _, _ in told}) == 1
    assert [found for _, found, _ in told] == ["", "", " algo-1 algo-2", " algo-1 algo-2"]
    assert {scratch for _, _, scratch in told} == {"False"}
    assert re.findall(r"leader (\S+),", done.stderr) == leaders
    assert "by SIGKILL" in done.stderr
    assert not (kept / "ended").exists()
    assert not alive(str(tmp_path))


def test_an_interruption_by_sigterm_lets_the_script_say_a_last_word(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    path, kept = script(SCRIPT), tmp_path / "kept"
    options = ["--checkpoints", str(kept), "--interrupt-by", "sigterm", "--interrupt-after", "3"]
    done = run_cli(*options, str(path), env=environment(TMPDIR=str(tmp_path)))
    assert done.returncode == 143, done.stderr
    assert (kept / "ended").read_text() == "algo-1"
    assert "[algo-1] saved" in done.stderr


def test_who_ends_an_interrupted_simulation_does_not_see_it_start_again(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    """The script hears SIGTERM, and goes on."""
    path, printed = script("import signal, time\nsignal.signal(15, 1)\ntime.sleep(300)"), tmp_path / "printed"
    options = ["--interrupt-by", "sigterm", "--interrupt-after", "1", "--restart", "--grace", "1"]
    with printed.open("w") as out:
        started = subprocess.Popen(command(*options, str(path)), env=environment(), stdout=out, stderr=out)
    wait_until(lambda: "is interrupted" in printed.read_text(), "the interruption")
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=60) == 130
    assert printed.read_text().count("leader") == 1


def test_a_job_that_ends_before_it_is_interrupted_is_no_rehearsal_and_a_line_says_so(
    script: Callable[[str], Path],
) -> None:
    path = script("")
    done = run_cli("--interrupt-after", "60", "--restart", str(path))
    assert done.returncode == 0, done.stderr
    assert "no restart was rehearsed. HINT: " in done.stderr
    assert "rehearsed" not in run_cli("--interrupt-after", "60", str(path)).stderr


def test_a_job_that_fails_by_itself_is_not_started_again(script: Callable[[str], Path], tmp_path: Path) -> None:
    options = ["--interrupt-after", "60", "--restart", "--work-dir", str(tmp_path / "job")]
    done = run_cli(*options, str(script("raise SystemExit(7)")))
    assert done.returncode == 7
    assert done.stderr.count("leader") == 1
