"""Walks through folders as they may be: links in circles, folders that cannot be read, names of any bytes."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


def printable(path: object) -> str:
    """A path as a line of text, whatever bytes its name has."""
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
