"""A disk for each host of a simulated job: mounts that only one process and its children see. Linux, as root."""

from __future__ import annotations

import ctypes
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NEW_NAMESPACE, _PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE


def can_have_own_disks() -> bool:
    """Whether this process may make such mounts."""
    try:
        return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0  # noqa: S607
    except OSError:
        return False


def have_own_disk(at: Path, hidden: list[Path]) -> None:
    """Give this process an empty disk of its own at a folder, and hide those of the other hosts."""
    libc = ctypes.CDLL(None, use_errno=True)
    at.mkdir(parents=True, exist_ok=True)
    done = [libc.unshare(_NEW_NAMESPACE), libc.mount(b"none", b"/", None, _PRIVATE, None)]
    done += [libc.mount(b"none", bytes(path), b"tmpfs", 0, None) for path in (at, *hidden)]
    if any(done):
        raise OSError(ctypes.get_errno(), f"no mounts: {done}")
