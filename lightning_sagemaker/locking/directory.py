"""Who shares a lock: the run and the process in words, and the folder of lock files, private, on this host alone.

The kind of a file system comes from ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)), by the mount's id from
``/proc/self/fdinfo``. It names what ``statfs`` only numbers: every FUSE file system has one number there, so that a
rootless container's own ``fuse-overlayfs`` could not be told from a bucket.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker import processes
from lightning_sagemaker.folders import file_system_of, is_network
from lightning_sagemaker.job import base_dir, host_name, is_training_job, job_name, lightning_local_rank, own_job
from lightning_sagemaker.job.launchers import read_world
from lightning_sagemaker.settings import LOCK_DIR, RUN_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 40  # characters of a name in that of a file
_MEMORY = Path("/dev/shm")  # noqa: S108 - the private part is below
ELSEWHERE = f"HINT: set {LOCK_DIR} to a folder on the host's own disk, the same for all processes of a host."


@dataclass(frozen=True)
class Process:
    """A process at one moment, as it is named in other processes' messages."""

    pid: int
    start: str | None  # tells it from a later one with the same id
    host: str  # in the job; outside a job of the machine
    rank: int | None  # where it has one already
    local_rank: int | None  # the same
    at: float  # the moment, by `processes.clock`

    @classmethod
    def me(cls) -> Process:
        """This process, now."""
        job = place = local_rank = None
        with suppress(OSError, ValueError):  # which stops a training, if anything does: here they only are names
            job = own_job()
        with suppress(ValueError):
            place = job or read_world(os.environ, 1)
            local_rank = lightning_local_rank(os.environ)
        if place is not None and (job is None or job.launcher != "none"):
            local_rank = place.local_rank
        pid, host = os.getpid(), host_name(os.environ) or platform.node()
        rank = None if place is None else place.rank
        return cls(pid, processes.start_of(pid), host, rank, local_rank, processes.clock())

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """The process that a file describes; ``None`` if the file is missing or damaged."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_bytes()))
        return None

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.start is not None and not processes.has_ended(self.pid, self.start)

    @property
    def is_me(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid() and self.start == processes.start_of(self.pid)

    @property
    def hold(self) -> str:
        """Its name, and for how long it has held a lock."""
        return f"{self}, which took it {max(0.0, processes.clock() - self.at):.0f} s ago"

    def __str__(self) -> str:
        facts = (("rank", self.rank), ("local rank", self.local_rank), ("pid", self.pid))
        return ", ".join(f"{name} {value}" for name, value in facts if value is not None) + f" on {self.host}"


def file_stem(label: str, told: str | None = None, shown: int = _SHOWN) -> str:
    """A file name for any string, ``told`` if it is not the label: readable, and different for different strings."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)[:shown].lstrip(".-")
    digest = hashlib.sha256((label if told is None else told).encode(errors="surrogatepass")).hexdigest()
    return f"{readable}-{digest[:16]}"


def run_stem() -> str:
    """File name that the processes of one run on one host share, and no others."""
    chosen = os.environ.get(RUN_ID, "")
    if is_training_job(os.environ):
        base = os.path.realpath(base_dir(os.environ))  # simulated hosts share one machine
        name, host = job_name(os.environ) or "job", host_name(os.environ) or ""
        parts, label = ["job", name, host, base, chosen], f"{name[:_SHOWN]}-{host}"
    elif chosen:
        parts, label = ["run", chosen, platform.node()], chosen
    else:
        pid, start = processes.run_leader()
        parts, label = ["process", str(pid), start, platform.node()], f"process-{pid}"
    return file_stem(label, "\0".join([*parts, processes.container()]), 2 * _SHOWN)


def lock_directory() -> Path:
    """Make, check and return the folder of this run's locks.

    It lies in ``LIGHTNING_SAGEMAKER_LOCK_DIR``, else in ``/dev/shm``, which is the machine's own memory whatever the
    disks and ``TMPDIR`` are, and not full when they are; else in ``TMPDIR``, else in ``/tmp``. Not in what
    :mod:`tempfile` chooses: that tries to write and goes elsewhere when it cannot, so two processes could differ.
    """
    if os.name != "posix":
        raise NotImplementedError(
            f"node_lock and once_per_node need a POSIX system, and this one is {os.name!r}. HINT: SageMaker's training"
            " containers are Linux; on Windows try the script in WSL."
        )
    folder = base_folder(os.environ)
    for name in (f"lightning-sagemaker-{os.geteuid()}", run_stem()):
        folder /= name
        _make_private(folder)
    return folder


def base_folder(environ: Mapping[str, str]) -> Path:
    """Parent folder of all users' and runs' lock folders; it exists and is not on a network file system."""
    source = next((name for name in (LOCK_DIR, "TMPDIR") if environ.get(name)), None)
    if source != LOCK_DIR and file_system_of(_MEMORY) == "tmpfs" and os.access(_MEMORY, os.W_OK | os.X_OK):
        return _MEMORY
    base = Path(os.path.realpath(environ[source] if source else "/tmp"))  # noqa: S108
    named = f"The folder for lock files, {base}{f' ({source})' if source else ''},"
    if not base.exists():
        raise FileNotFoundError(f"{named} does not exist. {ELSEWHERE}")
    if not base.is_dir():
        raise NotADirectoryError(f"{named} is not a folder. {ELSEWHERE}")
    kind = file_system_of(base)
    if kind is not None and is_network(kind):
        raise OSError(
            f"{named} lies on a network file system ({kind}), where locks may not exclude, or hang. {ELSEWHERE}"
        )
    return base


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        pass
    except OSError as error:
        text = f"The folder {folder} for lock files cannot be made: {error.strerror}. {ELSEWHERE}"
        raise OSError(error.errno, text) from error
    found = folder.lstat()
    mode, user = found.st_mode & 0o777, os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or (mode, found.st_uid) != (0o700, user):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else f"of user {found.st_uid} and mode {mode:04o}"
        raise PermissionError(
            f"{folder}, for lock files, is {what}; expected a folder of this process's user, {user}, and mode 0700,"
            f" since others could take or remove locks. HINT: find out who made it, and remove it, or set {LOCK_DIR}."
        )


def write(path: Path, record: object) -> None:
    """Write JSON so that readers only ever see a complete file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path}, for the other processes of this host, cannot be written: {error.strerror}. HINT: make room, or"
            f" set {LOCK_DIR}.",
        ) from error
