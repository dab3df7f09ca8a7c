"""A disk for each simulated host, by mounts that only its own processes see (mount_namespaces(7)). Linux.

On a host, what stands at ``/opt/ml`` is its own whatever host the path names: the folders of all hosts are this host's.
So is ``/tmp``, but for what was there before the job began: scripts are given files of this machine there.

Run as a program with a folder of hosts, the name of one, and a command, this file becomes that command on that host. It
runs before every other import, hence the plain functions.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

_TEMPORARY = os.path.realpath("/tmp")  # noqa: S108 - the folder itself is meant
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x20000  # unshare(2)
_BIND, _MOVE, _RECURSIVE, _PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000  # mount(2)


def on(root: str, host: str) -> list[str]:
    """What stands before a command that shall run on a host; root has a folder for each host, and files of all."""
    return [sys.executable, "-I", "-S", __file__, root, host]


def refused(root: str, host: str) -> str:
    """Why this system gives hosts no disks of their own; empty where it does."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no mount namespaces"
    import signal  # not at every start of a host's process, nor what follows
    import subprocess

    from lightning_sagemaker.simulate.processes import SIGNALS

    # A signal that raises while Popen starts the child would leave it behind, and it makes files in the root.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        command, pipe = [*on(root, host), "true"], subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as tried:  # noqa: S603
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                errors = tried.communicate()[1]
            except BaseException:
                tried.kill()
                raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    told = errors.strip().rpartition("\n")[2] or f"exit code {tried.returncode}"
    return told if tried.returncode else ""


def _enter(root: str, host: str) -> None:
    """Give this process, and what it becomes, the host's disk."""
    user, group = os.geteuid(), os.getegid()
    # Without root's rights a user namespace gives them, until another program is run: users stay who they are.
    _call("unshare", _NEW_MOUNTS | (_NEW_USER if user else 0))
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib is slow to import
                file.write(text)
    _call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    here, own = os.getcwd(), f"{root}/{host}"  # noqa: PTH109
    _lay_over_temporary(root, f"{own}/disk/tmp")
    for other in os.listdir(root):  # noqa: PTH208
        if other != host and os.path.isdir(f"{root}/{other}/ml"):  # noqa: PTH112
            _bind(own, f"{root}/{other}")
    os.chdir(here)  # which was a folder of the machine's own mounts until now


def _lay_over_temporary(root: str, folder: str) -> None:
    """Put a folder of this host in the place of the machine's own temporary one, with everything that lies there."""
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    _bind(folder, folder)
    # First what holds the folder itself: later it would hold the mounts of all the others too.
    for entry in sorted(os.scandir(_TEMPORARY), key=lambda entry: not root.startswith(f"{entry.path}/")):
        place = f"{folder}/{entry.name}"
        # What has gone meanwhile, or may not be had, is not there.
        with suppress(OSError):
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)  # noqa: PTH115, PTH211
                continue
            with suppress(FileExistsError):  # another process of this host has been here
                if entry.is_dir():
                    os.mkdir(place)  # noqa: PTH102
                else:
                    os.close(os.open(place, os.O_CREAT | os.O_EXCL))
            _bind(entry.path, place)
    _call("mount", os.fsencode(folder), os.fsencode(_TEMPORARY), None, _MOVE, None)


def _bind(what: str, where: str) -> None:
    _call("mount", os.fsencode(what), os.fsencode(where), None, _BIND | _RECURSIVE, None)


def _call(function: str, *arguments: int | bytes | None) -> None:
    """Call the system; flags of mount(2) are unsigned long."""
    given = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*given):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    _enter(*sys.argv[1:3])
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606
