"""A folder in place of the job's S3 location for checkpoints: copied to each host, and updated by what hosts wrote."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_sagemaker.folders import walk

if TYPE_CHECKING:
    from pathlib import Path

_Files = dict[str, tuple[int, int]]  # length in bytes and time of change, by path


@dataclass
class CheckpointPlace:
    """A folder in place of the S3 location, and what each host's copy of it held at the start.

    SageMaker copies the place to every host when it starts the job, and what changes on a host back, deletions too
    ("Use checkpoints in Amazon SageMaker AI" in AWS's developer guide). S3 has files only: no links, no empty folders.
    """

    folder: Path  # made where it is missing
    _copied: dict[Path, _Files] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def copy_to(self, local: Path) -> None:
        """Give a host its copy, in its checkpoint folder."""
        local.mkdir(parents=True)
        for name in _files(self.folder):
            _copy(self.folder / name, local / name)
        self._copied[local] = _files(local)

    def copy_back(self) -> None:
        """Apply to the folder what each host did in its copy; if two hosts wrote a file, the later one counts."""
        changed: dict[str, tuple[int, Path]] = {}
        removed: set[str] = set()
        for local, before in self._copied.items():
            now = _files(local)
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
        for name, (_, path) in changed.items():
            _copy(path, self.folder / name)
        self._copied.clear()

    @property
    def count(self) -> int:
        """How many files it holds."""
        return len(_files(self.folder))


def _files(folder: Path) -> _Files:
    found: _Files = {}
    for path in walk(folder, ignores=lambda _: False):
        with suppress(OSError):  # a link to nothing
            if path.is_file():
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return dict(sorted(found.items(), key=lambda file: os.fsencode(file[0])))  # S3's order is that of bytes


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)  # with new times, as copies from S3 have
