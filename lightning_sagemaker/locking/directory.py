"""The folder of the lock files: of this host alone, private to the user, one per run."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.locking import mounts
from lightning_sagemaker.locking.identity import run_stem
from lightning_sagemaker.settings import LOCK_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMORY = Path("/dev/shm")  # noqa: S108 - the private part is below
ELSEWHERE = f"HINT: set {LOCK_DIR} to a folder on the host's own disk, the same for all processes of a host."


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
    if source != LOCK_DIR and mounts.kind_of(_MEMORY) == "tmpfs" and os.access(_MEMORY, os.W_OK | os.X_OK):
        return _MEMORY
    base = Path(os.path.realpath(environ[source] if source else "/tmp"))  # noqa: S108
    named = f"The folder for lock files, {base}{f' ({source})' if source else ''},"
    if not base.exists():
        raise FileNotFoundError(f"{named} does not exist. {ELSEWHERE}")
    if not base.is_dir():
        raise NotADirectoryError(f"{named} is not a folder. {ELSEWHERE}")
    kind = mounts.kind_of(base)
    if kind is not None and mounts.is_network(kind):
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
