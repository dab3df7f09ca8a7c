"""Two containers, two jobs and two users write checkpoints into one folder, and processes are killed at it.

shared_folder.py FOLDER SECONDS

Containers are process namespaces with a /proc of their own, jobs differ by their variables; each process is a fork of
this one, which has imported all that takes time. Prints what each writer saw as JSON.
"""

from __future__ import annotations

import codecs
import ctypes
import functools
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lightning_sagemaker import latest_checkpoint
from lightning_sagemaker.checkpoint.reading import read
from lightning_sagemaker.patches.checkpoints import save_whole

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER, SECONDS = Path(sys.argv[1]), float(sys.argv[2])
UNTIL = time.monotonic() + SECONDS
USERS = (0, 1234)
_NEW_PROCESSES, _NEW_MOUNTS = 0x20000000, 0x00020000  # unshare(2)
_RECURSIVE, _PRIVATE = 0x4000, 0x40000  # mount(2)
_libc = ctypes.CDLL(None, use_errno=True)


def fork(body: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(KeyboardInterrupt):
            try:
                body()
                code = 0
            finally:
                os._exit(code)
    return pid


def call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def write(path: Path, step: int, size: int) -> None:
    save_whole({"global_step": step, "epoch": 0, "callbacks": {}, "weight": torch.zeros(size)}, path)


def writer(name: str, user: int, size: int) -> None:
    """Write one file again and again, and another one that all write; each must be what was written."""
    seen: dict[str, object] = {"written": 0, "lost": []}
    lost: list[str] = []
    with (FOLDER.parent / f"{name}.json").open("w") as report:
        os.chdir(FOLDER)  # whose parents are closed to the other user
        os.setgid(user)
        os.setuid(user)
        step = 0
        while time.monotonic() < UNTIL:
            step += 1
            try:
                write(Path(f"{name}.ckpt"), step, size)
                if read(Path(f"{name}.ckpt"))[0] != step:
                    lost.append(f"step {step} is not there")
                with suppress(PermissionError):  # where the other user's is older than this one's, as in stock
                    write(Path("last.ckpt"), step, size)
                if latest_checkpoint(".") is None:
                    lost.append("no checkpoint is complete")
            except Exception as error:  # noqa: BLE001 - all of it counts
                lost.append(f"{type(error).__name__}: {error}")
        seen = {"written": step, "lost": lost[:3]}
        report.write(json.dumps(seen))


def write_for_ever(path: Path) -> None:
    while True:
        write(path, 1, 1_000_000)


def container(name: str) -> None:
    """A container with a writer of each user, in which further ones are killed."""
    call("unshare", _NEW_PROCESSES | _NEW_MOUNTS)
    _, status = os.waitpid(fork(lambda: inside(name)), 0)
    os._exit(os.waitstatus_to_exitcode(status))


def inside(name: str) -> None:
    call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    call("mount", b"proc", b"/proc", b"proc", 0, None)
    os.environ["TRAINING_JOB_NAME"] = f"job-{name}"
    sizes = (1_000_000, 1_000) if name == "a" else (1_000, 1_000_000)
    writers = [
        fork(functools.partial(writer, f"{name}-{user}", user, size)) for user, size in zip(USERS, sizes, strict=True)
    ]
    chance, killed, left = random.Random(19), 0, 0  # noqa: S311 - moments, no secrets
    while time.monotonic() < UNTIL:
        victim = fork(functools.partial(write_for_ever, FOLDER / f"{name}-victim.ckpt"))
        time.sleep(chance.random() * 0.2)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
        left += any(f".{victim}." in path.name for path in FOLDER.glob(".*.part"))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in writers]
    write(FOLDER / f"{name}-end.ckpt", 1, 10)  # which clears up
    report = {"killed": killed, "left_by_killed": left, "codes": codes}
    (FOLDER.parent / f"{name}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Once here: the other user may not read what Python still imports then.
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"global_step": 1}, Path(folder, "a.ckpt"))
        latest_checkpoint(folder)
        codecs.lookup("ascii")
        importlib.import_module("lightning_sagemaker.checkpoint.other_hosts")
    FOLDER.mkdir(mode=0o777)
    FOLDER.chmod(0o777)
    for name in (".model.download.123.456.part", ".a.b.1.c.part", "download.part"):  # of strangers
        (FOLDER / name).touch()
    containers = [fork(functools.partial(container, name)) for name in "ab"]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in containers]
    print(
        json.dumps(
            {"codes": codes, **{file.stem: json.loads(file.read_text()) for file in FOLDER.parent.glob("*.json")}}
        )
    )
