"""The folder of the lock files: of this host alone, private to the user, one per run; and which file systems are safe.

The kind of a file system comes from ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)), by the mount's id from
``/proc/self/fdinfo``. It names what ``statfs`` only numbers: every FUSE file system has one number there, so that a
rootless container's own ``fuse-overlayfs`` could not be told from a bucket.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.locking.identity import run_stem
from lightning_sagemaker.processes import PROC
from lightning_sagemaker.settings import LOCK_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMORY = Path("/dev/shm")  # noqa: S108 - the private part is below
ELSEWHERE = f"HINT: set {LOCK_DIR} to a folder on the host's own disk, the same for all processes of a host."
# `flock` on these is emulated, ignored, or hangs, depending on server and mount options. EFS, FSx for OpenZFS and for
# ONTAP are mounted as nfs4 or nfs; buckets by FUSE, which some containers have locally too.
_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|ocfs2|orangefs|pvfs2|smb3|smbfs|wekafs"
    r"|fuse(\.(?!(fuse-overlayfs|lxcfs|portal)$).*)?"
)


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
    if source != LOCK_DIR and kind_of(_MEMORY) == "tmpfs" and os.access(_MEMORY, os.W_OK | os.X_OK):
        return _MEMORY
    base = Path(os.path.realpath(environ[source] if source else "/tmp"))  # noqa: S108
    named = f"The folder for lock files, {base}{f' ({source})' if source else ''},"
    if not base.exists():
        raise FileNotFoundError(f"{named} does not exist. {ELSEWHERE}")
    if not base.is_dir():
        raise NotADirectoryError(f"{named} is not a folder. {ELSEWHERE}")
    kind = kind_of(base)
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


def kind_of(folder: Path) -> str | None:
    """Kind of file system of a folder, as ``mount`` names it; ``None`` if the system does not tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        facts = (PROC / f"self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
        number = next(line.split()[1] for line in facts if line.startswith("mnt_id:"))
        mounts = (PROC / "self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(" - ")[2].split()[0] for line in mounts if line.split()[0] == number)
    except (OSError, StopIteration, IndexError):
        return None
    finally:
        os.close(descriptor)


def is_network(kind: str) -> bool:
    """Whether locks on such a file system may not exclude others: network file systems, and FUSE not known as local."""
    return _NETWORK.fullmatch(kind) is not None
