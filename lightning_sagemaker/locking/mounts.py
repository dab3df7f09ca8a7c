"""The kind of file system of a folder, and the kinds that are unsafe for locks.

The kind comes from ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)), by the mount's id from ``/proc/self/fdinfo``. It
names what ``statfs`` only numbers: every FUSE file system has one number there, so that a rootless container's own
``fuse-overlayfs`` could not be told from a bucket. Where the system has neither file, nothing is said.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from lightning_sagemaker.processes import PROC

if TYPE_CHECKING:
    from pathlib import Path

# `flock` on these is emulated, ignored, or hangs, depending on server and mount options. EFS, FSx for OpenZFS and for
# ONTAP are mounted as nfs4 or nfs; buckets by FUSE, which some containers have locally too.
_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|ocfs2|orangefs|pvfs2|smb3|smbfs|wekafs"
    r"|fuse(\.(?!(fuse-overlayfs|lxcfs|portal)$).*)?"
)


def kind_of(folder: Path) -> str | None:
    """Kind of file system of a folder, as ``mount`` names it; ``None`` if the system does not report it."""
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
