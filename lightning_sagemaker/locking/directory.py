"""The folder of the lock files: of this host alone, private to the user, one per run."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.locking import mounts
from lightning_sagemaker.locking.identity import run_stem

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = "LIGHTNING_SAGEMAKER_LOCK_DIR"
_PRIVATE = 0o700
_MEMORY = Path("/dev/shm")  # noqa: S108 - the private part is below
ELSEWHERE = f"HINT: set {_VARIABLE} to a folder on the host's own disk, the same for all processes of a host."


def lock_directory() -> Path:
    """Make, check and return the folder of this run's locks.

    It lies in ``LIGHTNING_SAGEMAKER_LOCK_DIR``, else in ``/dev/shm``, which is the machine's own memory whatever the
    disks and ``TMPDIR`` are, and not full when they are; else in ``TMPDIR``, else in ``/tmp``. Not in what
    :mod:`tempfile` chooses: that tries to write and goes elsewhere when it cannot, so two processes could differ.

    Raises:
        FileNotFoundError: The folder to put it in does not exist.
        PermissionError: Somebody else owns it or may enter it, or it cannot be written.
        NotADirectoryError: There is a link or a file instead.
        OSError: It lies on a network file system, or cannot be made: the file system is read-only or full.
        NotImplementedError: This is no POSIX system.
        RuntimeError: Nothing tells which processes belong to one run.
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
    """Folder in which those of all users and runs lie, which exists and is no network file system.

    Args:
        environ: Environment to read.

    Raises:
        FileNotFoundError: It does not exist.
        NotADirectoryError: It is a file.
        OSError: It lies on a network file system.
    """
    base, named = _base(environ)
    if not base.is_dir():
        problem = "is not a folder" if base.exists() else "does not exist"
        kind = NotADirectoryError if base.exists() else FileNotFoundError
        raise kind(f"The folder for lock files, {named}, {problem}. {ELSEWHERE}")
    file_system = mounts.kind_of(base)
    if file_system is not None and mounts.is_network(file_system):
        raise OSError(
            f"The folder for lock files, {named}, lies on a network file system ({file_system}), where locks may not"
            f" exclude, or hang. {ELSEWHERE}"
        )
    return base


def _base(environ: Mapping[str, str]) -> tuple[Path, str]:
    """Where the folder goes, and how to name that."""
    for source in (_VARIABLE, None, "TMPDIR"):
        if source is None:
            if mounts.kind_of(_MEMORY) == "tmpfs" and os.access(_MEMORY, os.W_OK | os.X_OK):
                return _MEMORY, f"{_MEMORY}"
        elif environ.get(source):
            base = Path(os.path.realpath(environ[source]))
            return base, f"{base} ({source})"
    base = Path(os.path.realpath("/tmp"))  # noqa: S108
    return base, f"{base}"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(_PRIVATE)
    except FileExistsError:
        pass
    except OSError as error:
        raise OSError(
            error.errno, f"The folder {folder} for lock files cannot be made: {error.strerror}. {ELSEWHERE}"
        ) from error
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a folder"
        raise NotADirectoryError(
            f"{folder} is {what}; expected a folder that this package made for its lock files. HINT: find out who put"
            " it there, and remove it."
        )
    if found.st_uid != os.geteuid():
        raise PermissionError(
            f"{folder}, for lock files, belongs to user {found.st_uid}; expected this process's user, {os.geteuid()}."
            f" HINT: find out who made it, and remove it, or set {_VARIABLE}."
        )
    if (mode := stat.S_IMODE(found.st_mode)) & ~_PRIVATE or mode & _PRIVATE != _PRIVATE:
        raise PermissionError(
            f"{folder}, for lock files, has mode {mode:04o}; expected 0700, since others could take or remove locks."
            f" HINT: chmod 700 {folder}"
        )
