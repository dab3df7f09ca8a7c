"""Hosts that cannot see each other's disks, as in a job: by mounts of their own where the system has them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .helpers import alive, command, environment, require, run_cli, wait_until
from .test_supervision import SCRIPT as WAITING

if TYPE_CHECKING:
    from collections.abc import Callable

# Each rank writes what it has, waits until all have, and tells whose files it finds where it and others wrote.
SCRIPT = """\
import os, sys, time
folder, word, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
host = os.environ["SAGEMAKER_BASE_DIR"].split("/")[-2]
rank = os.environ.get("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", host))
model = os.environ["SAGEMAKER_BASE_DIR"] + "/model"
places = {"model": model, "tmp": "/tmp", "folder": os.getcwd(), "temporary": os.environ["TMPDIR"]}
for place in places.values():
    open(f"{place}/{word}-{host}", "a").close()
open(f"{folder}-{rank}", "w").write("\\n".join(places.values()))
os.rename(f"{folder}-{rank}", f"{folder}/{rank}")
while len(os.listdir(folder)) < count:
    time.sleep(0.02)
for other in sorted(os.listdir(folder)):
    for name, place in zip(places, open(f"{folder}/{other}").read().split("\\n")):
        print("in", name, "of", other, *sorted(one[-1] for one in os.listdir(place) if one.startswith(word)))
"""
TWO_BY_TWO = ("--hosts", "2", "--processes-per-host", "2")


@pytest.fixture
def word() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def unprivileged() -> list[str]:
    """What stands before a command that shall run as a user without root's rights."""
    before = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if shutil.which("unshare") is None or subprocess.run([*before, "true"], check=False).returncode:
        require("no user namespaces on this system")
    return before


def found(text: str) -> dict[str, set[str]]:
    """Whose files the ranks of each host found, wherever they looked."""
    seen: dict[str, set[str]] = {"1": set(), "2": set()}
    for line in text.splitlines():
        if " in " in line:
            seen[line.partition("algo-")[2][0]].add(line.rpartition(" of ")[2].partition(" ")[2])
    return seen


@pytest.mark.parametrize(("launcher", "count"), [("none", 2), ("torchrun", 4), ("smddprun", 4), ("mpirun", 4)])
def test_a_host_finds_its_own_files_at_every_host_s_place_and_no_other_s(
    launcher: str, count: int, word: str, script: Callable[[str], Path], tmp_path: Path
) -> None:
    path, folder, job = script(SCRIPT), tmp_path / "seen", tmp_path / "job"
    folder.mkdir()
    done = run_cli(
        *(*TWO_BY_TWO, "--launcher", launcher, "--work-dir", str(job)),
        *(str(path), "--", str(folder), word, str(count)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" in ") == count * count * 4
    assert found(done.stdout) == {"1": {"1"}, "2": {"2"}}
    assert not list(Path("/tmp").glob(f"{word}*"))  # noqa: S108
    for host in ("1", "2"):
        assert [file.name for file in (job / f"algo-{host}/ml/model").iterdir()] == [f"{word}-algo-{host}"]


def test_hosts_that_share_a_disk_find_all_files(word: str, script: Callable[[str], Path], tmp_path: Path) -> None:
    path, folder = script(SCRIPT), tmp_path / "seen"
    folder.mkdir()
    try:
        done = run_cli("--hosts", "2", "--shared-disk", str(path), "--", str(folder), word, "2")
    finally:
        for file in Path("/tmp").glob(f"{word}*"):  # noqa: S108
            file.unlink()
    assert "in tmp of algo-1 1 2" in done.stdout, done.stderr
    assert found(done.stdout) == {"1": {"1", "2", "1 2"}, "2": {"1", "2", "1 2"}}
    assert "see each other's files" not in done.stderr


def test_without_root_s_rights_hosts_have_own_disks_too_and_end_by_signals(
    unprivileged: list[str], word: str, script: Callable[[str], Path], tmp_path: Path
) -> None:
    path, folder = script(SCRIPT), tmp_path / "seen"
    folder.mkdir()
    done = subprocess.run(
        [*unprivileged, *command("--hosts", "2", str(path), "--", str(folder), word, "2")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert found(done.stdout) == {"1": {"1"}, "2": {"2"}}

    path, ready, temporary = script(WAITING), tmp_path / "ready", tmp_path / "temporary"
    ready.mkdir()
    temporary.mkdir()
    shape = ["--hosts", "2", "--env", f"READY={ready}", "--env", "EXPECTED=2", "--grace", "1"]
    started = subprocess.Popen(
        [*unprivileged, *command(*shape, str(path), "--", "deaf", "-")],
        env=environment(TMPDIR=str(temporary)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(list(ready.iterdir())) == 2, "both hosts are there")
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=60) == 143
    assert not list(temporary.iterdir())
    assert not alive(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="a limit of mounts is root's to set")
def test_where_the_system_has_no_own_mounts_a_line_says_so(
    unprivileged: list[str], script: Callable[[str], Path]
) -> None:
    limited = "echo 0 >/proc/sys/user/max_mnt_namespaces; exec"
    here = [*unprivileged[:2], "--map-root-user", "/bin/sh", "-c", f'{limited} "$@"', "sh"]
    done = subprocess.run(
        [*here, *command("--hosts", "2", str(script("print('here')")))],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("here") == 2
    assert (
        "simulate: hosts see each other's files, as those of a job do not: OSError: [Errno 28] unshare" in done.stderr
    )


BEST = """\
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
trainer = Trainer(max_epochs=1, accelerator="cpu", limit_train_batches=2, limit_val_batches=1, limit_test_batches=1,
                  logger=False, callbacks=[ModelCheckpoint("models")], enable_progress_bar=False)
trainer.fit(BoringModel())
trainer.test(ckpt_path="best")
print("tested by", trainer.global_rank)
"""


@pytest.mark.training
@pytest.mark.parametrize(
    ("options", "tested"),
    [
        ([], 2),
        (["--env", "LIGHTNING_SAGEMAKER_DISABLE=same_checkpoint"], 0),  # as in stock
        (["--env", "LIGHTNING_SAGEMAKER_DISABLE=same_checkpoint", "--shared-disk"], 2),
    ],
)
def test_the_best_checkpoint_is_on_one_host_s_disk(
    options: list[str], tested: int, script: Callable[[str], Path]
) -> None:
    """What stock cannot do in a job on two hosts, it cannot do here."""
    done = run_cli("--hosts", "2", "--launcher", "torchrun", *options, str(script(BEST)), timeout=240)
    assert done.stdout.count("tested by") == tested, done.stderr
    assert (done.returncode == 0) == (tested == 2)
    if not tested:
        assert "FileNotFoundError" in done.stderr


READ_ONLY = """\
import os, sys
for place in (os.environ["TMPDIR"], os.environ["SM_MODEL_DIR"]):
    os.makedirs(place + "/cache/deep")
    open(place + "/cache/deep/file", "w")
    os.chmod(place + "/cache/deep", 0o555)
    os.chmod(place + "/cache", 0o000)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("options", [(), ("--interrupt-after", "300", "--restart")])
def test_folders_that_a_script_makes_read_only_are_removed_and_hide_no_failure(
    options: tuple[str, ...], unprivileged: list[str], script: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(
        [*unprivileged, *command(*options, str(script(READ_ONLY)), "--", "7")],
        env=environment(TMPDIR=str(tmp_path / "temporary")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(("options", "kept"), [((), 1), (("--hosts", "2"), 0)])
def test_what_one_host_writes_in_the_machine_s_temporary_folder_stays(
    options: tuple[str, ...], kept: int, word: str, script: Callable[[str], Path]
) -> None:
    path = Path("/tmp", word)  # noqa: S108
    try:
        assert run_cli(*options, str(script(f"open({str(path)!r}, 'w')"))).returncode == 0
        assert path.exists() == bool(kept)
    finally:
        path.unlink(missing_ok=True)


def test_one_host_that_starts_again_finds_nothing_of_its_first_start(
    word: str, script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = Path("/tmp", word)  # noqa: S108
    text = f"import os, time\nprint(os.path.exists({str(path)!r}), flush=True)\nopen({str(path)!r}, 'w')\n"
    text += "again = os.path.exists(os.environ['SAGEMAKER_BASE_DIR'] + '/checkpoints/there')\n"
    text += "open(os.environ['SAGEMAKER_BASE_DIR'] + '/checkpoints/there', 'w')\nagain or time.sleep(300)"
    done = run_cli("--interrupt-after", "5", "--restart", "--checkpoints", str(tmp_path / "kept"), str(script(text)))
    assert done.stdout == "[algo-1] False\n" * 2, done.stderr
    assert not path.exists()


ASKING = """\
import os, signal, subprocess, sys
from lightning_sagemaker.simulate import own_disk, processes
start, started = subprocess.Popen._execute_child, []
def interrupted(self, *arguments, **options):  # once the child is there
    start(self, *arguments, **options)
    started.append(self.pid)
    os.kill(os.getpid(), signal.SIGTERM)
subprocess.Popen._execute_child = interrupted
try:
    with processes.handling_signals(processes.raise_signal):
        own_disk.refused(sys.argv[1], "algo-1")
except SystemExit as end:
    print(end.code)
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
try:
    os.kill(*started, 0)  # also one that has ended, and that nobody has waited for
except ProcessLookupError:
    print("gone")
"""


@pytest.mark.skipif(not Path("/proc/self/ns/mnt").exists(), reason="mount namespaces are Linux's")
def test_a_signal_while_the_system_is_asked_leaves_no_process(tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASKING, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert asked.stdout.split("\n") == ["143", "set()", "gone", ""]
