"""Other processes of the container, by Linux's ``/proc``: names of commands only, never their arguments."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_LISTENING = "0A"  # state of a socket in /proc/net/tcp


def ancestors(proc: Path = _PROC) -> list[dict[str, Any]]:
    """This process's parents up to process 1, and whether each has a handler for SIGTERM."""
    found, pid = [], os.getppid()
    while pid > 0:
        try:
            fields = dict(
                text.split(":\t", 1)
                for text in (proc / str(pid) / "status").read_text(encoding="utf-8").splitlines()
                if ":\t" in text
            )
        except OSError:
            break
        caught = int(fields.get("SigCgt", "0"), 16) >> (signal.SIGTERM - 1) & 1
        found.append({"pid": pid, "name": fields["Name"], "catches_sigterm": bool(caught)})
        pid = int(fields["PPid"])
    return found


def listener(port: int, proc: Path = _PROC) -> str | None:
    """Name of the command that listens on a port; ``None`` where it cannot be seen."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for row in (proc / table).read_text(encoding="ascii").splitlines()[1:]:
                fields = row.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for descriptor in proc.glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(descriptor.readlink()) in inodes:
                return (descriptor.parents[1] / "comm").read_text(encoding="utf-8").strip()
    return None
