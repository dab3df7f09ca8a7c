"""A private ``/opt/ml`` for a process, and names for hosts: what SageMaker's own code has fixed paths and names for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from .helpers import require

if TYPE_CHECKING:
    from pathlib import Path

_UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
# Lays an own /opt over the machine's, puts the host's folder there, and names the hosts.
_ENTER = """\
set -e
mount -t tmpfs none "$1/layers"
mkdir "$1/layers/upper" "$1/layers/work"
mount -t overlay none -o "lowerdir=/opt,upperdir=$1/layers/upper,workdir=$1/layers/work" /opt
mkdir -p /opt/ml
mount --bind "$1/ml" /opt/ml
mount --bind "$1/hosts" /etc/hosts
"""


def inside(folder: Path, shell: str) -> list[str]:
    """The command that runs a piece of shell where ``/opt/ml`` is ``ml`` of a folder.

    Args:
        folder: Holds ``ml``, an empty ``layers`` and a file ``hosts``.
        shell: What is run there; ends by ``exec``.
    """
    return [*_UNSHARE, "/bin/sh", "-c", f"{_ENTER}{shell}", "enter", str(folder)]


def require_namespaces(folder: Path) -> None:
    """Skip, or fail where everything has to run, if this machine allows no private mounts."""
    for part in ("layers", "ml"):
        (folder / part).mkdir()
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        require("no private mount namespaces on this system")
    done = subprocess.run(inside(folder, "exec true"), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        require(f"no private mount namespace to be had: {done.stderr.strip()}")
