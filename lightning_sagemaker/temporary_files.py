"""Temporary files and folders: they have their name once complete; what a killed process left is known by its name."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from lightning_sagemaker import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIX, _FOLDER = ".part", ".parts"


@contextmanager
def complete_file(path: Path, *, replaces: bool = True) -> Iterator[IO[bytes]]:
    """Write a file that has its name only once complete and flushed; ``replaces=False``: one there is an OSError."""
    remove_left(path.parent)
    unfinished = name(path)
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            unfinished.replace(path)
        else:
            os.link(unfinished, path)  # atomic, and fails where the file exists
    finally:
        unfinished.unlink(missing_ok=True)
    with suppress(OSError):  # not every file system can flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that has its name only once it is complete; what is there is replaced then."""
    remove_left(path.parent)
    unfinished, before = (name(path.with_name(f"{path.name}{what}"), _FOLDER) for what in ("", " before"))
    try:
        unfinished.mkdir()
        yield unfinished
        with suppress(FileNotFoundError):
            path.rename(before)  # a folder with something in it cannot be replaced at once
        unfinished.rename(path)
    finally:
        for left in (unfinished, before):
            _remove(left)


def name(path: Path, suffix: str = _SUFFIX) -> Path:
    """A name in the same folder that no other thread, process, container or host uses, however long the file's is."""
    pid, here = os.getpid(), _short(f"{threading.get_ident()} {path.name}")
    return path.with_name(f".{here}.{_container()}.{pid}.{processes.start_of(pid)}{suffix}")


def remove_left(folder: Path) -> None:
    """Remove the temporary files and folders of this container and user whose process has ended.

    Those of others may be at work: hosts and jobs share folders (FSx, EFS), process ids tell nothing about another
    container's processes, and another user's can be hidden from this one.
    """
    for path in folder.glob(f".*{_SUFFIX}*"):
        named = re.fullmatch(rf"\.[0-9a-f]{{12}}\.{_container()}\.(\d{{1,10}})\.([^.]+)\.parts?", path.name)
        with suppress(OSError):
            status = path.lstat()
            is_kind = stat.S_ISDIR if path.suffix == _FOLDER else stat.S_ISREG
            is_mine = is_kind(status.st_mode) and status.st_uid == os.geteuid()
            if named and is_mine and processes.has_ended(int(named[1]), named[2]):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _container() -> str:
    # The host's name tells machines apart where the system has no containers to tell of.
    return _short(f"{platform.node()} {processes.container()}")


def _short(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
