"""A folder in place of the job's S3 location for checkpoints: copied to each host, and updated by what hosts wrote."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from lightning_sagemaker.folders import walk

if TYPE_CHECKING:
    from pathlib import Path

_Files = dict[str, tuple[int, int]]  # length in bytes and time of change, by path


class CheckpointPlace:
    """A folder in place of the S3 location, made where it is missing, and what hosts' copies of it held at the start.

    SageMaker copies the place to every host when it starts the job, and what changes on a host back, deletions too
    ("Use checkpoints in Amazon SageMaker AI" in AWS's developer guide). S3 has files only: no links, no empty folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._copied: dict[Path, _Files] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def copy_to(self, local: Path) -> None:
        """Give a host its copy, in its checkpoint folder."""
        local.mkdir(parents=True)
        for name in files(self.folder):
            _copy(self.folder / name, local / name)
        self._copied[local] = files(local)

    def copy_back(self) -> list[str]:
        """Apply to the folder what each host did in its copy; if two hosts wrote a file, the later one counts.

        Returns the files that have no place there, since another host wrote a folder of that name, or a file of the
        name of theirs. S3 has place for both.
        """
        changed: dict[str, tuple[int, Path]] = {}
        removed: set[str] = set()
        for local, before in self._copied.items():
            now = files(local)
            removed.update(before.keys() - now.keys())
            for name, (_, time) in now.items():
                if now[name] != before.get(name) and (name not in changed or time >= changed[name][0]):
                    changed[name] = (time, local / name)
        for name in removed - changed.keys():
            with suppress(FileNotFoundError):
                (self.folder / name).unlink()
            with suppress(OSError):  # of a folder that is not empty; an empty one is none in S3, but in a file's way
                for parent in (self.folder / name).relative_to(self.folder).parents[:-1]:
                    (self.folder / parent).rmdir()
        self._copied.clear()
        return [name for name, (_, path) in changed.items() if not _copy(path, self.folder / name)]


def files(folder: Path) -> _Files:
    """The files of a folder and below, in the order of S3's keys, which is that of bytes."""
    found: _Files = {}
    for path in walk(folder):
        with suppress(OSError):  # a link to nothing
            if path.is_file():
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return dict(sorted(found.items(), key=lambda file: os.fsencode(file[0])))


def _copy(source: Path, target: Path) -> bool:
    """Copy a file; whether there was place for it: no folder of its name, and no file of that of its folder."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)  # with new times, as copies from S3 have
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        return False
    return True
