"""The identity of a checkpoint's contents, without reading gigabytes: copies are equal, whatever their path."""

from __future__ import annotations

import hashlib
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lightning_sagemaker.checkpoint.reading import read

_METADATA = (".metadata", "meta.pt")  # what rank 0 adds to the shards (torch.distributed.checkpoint, Lightning)
_SAMPLES, _SAMPLE = 64, 65536  # number and bytes of the pieces that are read of an archive without checksums
_PIECE = 1 << 22  # bytes


@dataclass(frozen=True)
class Content:
    """The file, folder or other thing at a checkpoint's path."""

    kind: str = "unknown"  # `file`, `folder`, `missing`, or `unknown` where that cannot or shall not be told
    digest: str = ""  # the same for equal content
    lacks: tuple[str, ...] = ()  # parts of a folder that are not there
    shards: dict[str, int] = field(default_factory=dict)  # bytes of each shard in a folder

    @classmethod
    def of(cls, path: Path | None) -> Content:
        """The content at a path as :func:`local` returns it; ``unknown`` if that is remote, or cannot be read."""
        with suppress(OSError):  # no permission: whoever loads it says so
            kind = "unknown" if path is None else kind_of(path)
            if path is None or kind not in ("file", "folder"):
                return cls(kind)
            if kind == "file":
                return cls(kind, digest(path))
            lacks = tuple(name for name in _METADATA if not (path / name).is_file())
            digests = " ".join(digest(path / name) for name in _METADATA if name not in lacks)
            shards = {shard.name: shard.stat().st_size for shard in path.glob("*.distcp")}
            return cls(kind, digests, lacks, shards)
        return cls()

    def differs_from(self, other: Content) -> bool:
        """Whether the two are certainly not copies of one checkpoint."""
        if "unknown" in (self.kind, other.kind):
            return False
        if self.kind != other.kind:
            return True
        if self.kind == "folder" and (self.lacks or other.lacks):
            return False  # no torch.distributed.checkpoint, or a part of one
        common = self.shards.keys() & other.shards.keys()
        return self.digest != other.digest or any(self.shards[name] != other.shards[name] for name in common)


def kind_of(path: Path) -> str:
    """The kind of thing at a path, as in :class:`Content`."""
    if path.is_dir():
        return "folder"
    return "file" if path.is_file() else "unknown" if path.exists() else "missing"


def local(path: object) -> Path | None:
    """A path as it is given to Lightning, absolute; ``None`` for a remote one, which is not downloaded."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    text = os.fsdecode(path).removeprefix("file://")
    return None if "://" in text else Path(text).expanduser().absolute()


def digest(path: Path) -> str:
    """A string that is equal for copies of one file, and different for different checkpoints.

    The directory of :func:`torch.save`'s archive has size and checksum of each record. The name of the folder in which
    the records lie, which is that of the first file, does not count. Other files are read.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        members = _members(file)
        for member in members:
            found.update(f"{member.filename.partition('/')[2]}\0{member.file_size}\0{member.CRC}\0".encode())
        if not members:
            file.seek(0)
            while piece := file.read(_PIECE):
                found.update(piece)
        elif not any(member.CRC for member in members):  # torch.serialization.set_crc32_options(False)
            size = file.seek(0, os.SEEK_END)
            for sample in range(_SAMPLES):
                file.seek(max(size - _SAMPLE, 0) * sample // (_SAMPLES - 1))
                found.update(file.read(_SAMPLE))
    return found.hexdigest()


def _members(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """Records of an archive; none if the file is not an archive, or an archive is only embedded at its end."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []
    return members if min((member.header_offset for member in members), default=1) == 0 else []


def progress_in_words(path: Path) -> str:
    """Step and epoch of a checkpoint; empty where it does not tell. Takes seconds where many numbers are in it."""
    with suppress(OSError, ValueError):
        named = zip(("step", "epoch"), read(path)[:2], strict=True)
        return ", ".join(f"{name} {number}" for name, number in named if number >= 0)
    return ""
