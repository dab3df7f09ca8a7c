"""Folders as they may be: links in circles, mounts over a network, folders that cannot be read, names of any bytes."""

from __future__ import annotations

import os
import re
from collections import deque
from typing import TYPE_CHECKING

from lightning_sagemaker.processes import PROC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# `flock` on these is emulated, ignored, or hangs, depending on server and mount options. EFS, FSx for OpenZFS and for
# ONTAP are mounted as nfs4 or nfs; buckets by FUSE, which some containers have locally too.
_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|ocfs2|orangefs|pvfs2|smb3|smbfs|wekafs"
    r"|fuse(\.(?!(fuse-overlayfs|lxcfs|portal)$).*)?"
)


def walk(
    folder: Path, ignores: Callable[[Path], bool] = lambda _: False, ends_at: Callable[[Path], bool] = lambda _: False
) -> Iterator[Path]:
    """All files in a folder and below, links followed, but no folder twice: two links to ``.`` are 2^40 paths.

    What ``ignores`` names is left out, a folder that ``ends_at`` names is yielded as a file is. Of two ways to a folder
    the real one counts: paths that lead through no link come first.
    """
    known: set[tuple[int, int]] = set()
    left: deque[Path] = deque([folder])
    links: deque[Path] = deque()
    while left or links:
        here = (left or links).popleft()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in known:
                continue
            known.add((status.st_dev, status.st_ino))
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:  # gone meanwhile, or not readable: as if it were empty
            continue
        for entry in entries:
            path = here / entry.name
            if ignores(path):
                continue
            if _is_folder(entry) and not ends_at(path):
                (links if entry.is_symlink() else left).append(path)
            else:
                yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def file_system_of(folder: Path) -> str | None:
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


def is_network(file_system: str) -> bool:
    """Whether locks on such a file system may not exclude others: network file systems, and FUSE not known as local."""
    return _NETWORK.fullmatch(file_system) is not None


def printable(path: object) -> str:
    """A path as a line of text, whatever bytes its name has."""
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
