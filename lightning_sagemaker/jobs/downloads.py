"""Downloads and unpacks what a training job wrote: model, output and checkpoints, each complete or absent."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.listing import find
from lightning_sagemaker.options import printable
from lightning_sagemaker.temporary_files import complete_file, complete_folder

if TYPE_CHECKING:
    from lightning_sagemaker.jobs.description import Job

_ARCHIVE = ".tar.gz"
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, repr=False)
class Download:
    """A file that a job wrote.

    Attributes:
        uri: S3 URI that it comes from.
        path: Where it lies.
        size: Bytes.
        fetched: Whether it was fetched now; it was not if it was here already.
        unpacked: Folder with its content, where it is an archive.
        gone: Whether it was deleted after it was listed, as old checkpoints of a running job are.
    """

    uri: str
    path: Path
    size: int
    fetched: bool = False
    unpacked: Path | None = None
    gone: bool = False
    _modified: float = field(default=0.0, compare=False)  # in seconds of the epoch
    _s3: Any = field(default=None, compare=False)  # until it is fetched

    def __str__(self) -> str:
        unpacked = "" if self.unpacked is None else f", unpacked in {self.unpacked}"
        how = "  (deleted meanwhile)" if self.gone else "" if self.fetched else "  (was there already)"
        return printable(f"{size(self.size)}  {self.path}{unpacked}{how}")

    __repr__ = __str__

    @property
    def is_here(self) -> bool:
        """Whether the file exists: of this size, and not older, as a newer checkpoint often has the same size."""
        if not self.path.is_file():
            return False
        status = self.path.stat()
        return status.st_size == self.size and status.st_mtime >= self._modified

    def fetch(self, *, force: bool) -> Download:
        """Download the file unless it exists, and unpack it; what else lies there is replaced by force only."""
        try:
            return self._fetch(force=force)
        except OSError as error:
            if error.errno and error.filename is None:  # a full disk's names no file
                error.filename = str(self.path)
            raise
        except self._s3.exceptions.ClientError as error:
            if self.unpacked is None and aws.is_missing(error):
                return replace(self, gone=True, _s3=None)
            raise

    def _fetch(self, *, force: bool) -> Download:
        fetched = not self.is_here
        if fetched:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with complete_file(self.path) as file:
                self._s3.download_fileobj(*aws.place(self.uri), file)
            os.utime(self.path, (self._modified, self._modified))  # by S3's clock, which this machine's may not follow
        if self.unpacked is not None and (fetched or not self.unpacked.exists()):
            unpack(self.path, self.unpacked, force=force)
        return replace(self, fetched=fetched, _s3=None)


def download(
    name: str,
    to: str | Path | None = None,
    *,
    model: bool = False,
    output: bool = False,
    checkpoints: bool = False,
    force: bool = False,
    session: Any = None,
) -> list[Download]:
    """Download what a training job wrote; files that exist already, by size and time, are skipped.

    Args:
        name: Name of the job, or the beginning of it that no other has.
        to: Folder for it; by default one with the job's name.
        model: Whether to fetch the model, which is unpacked into the folder ``model``.
        output: Whether to fetch what it put into ``/opt/ml/output/data``, into the folder ``output``.
        checkpoints: Whether to fetch its checkpoints. Without any of the three: model and output, as far as they are
            there.
        force: Whether other files that lie there are replaced.
        session: Session of boto3; by default a new one.

    Raises:
        FileExistsError: Another file lies there, or an older one. Nothing is fetched then.
        ImportError: boto3 is not installed.
        ValueError: There is no such job, or what is asked for is not there (yet).
    """
    asked = {"model": model, "output": output, "checkpoints": checkpoints}
    kinds = {kind for kind, wanted in asked.items() if wanted}
    return [one.fetch(force=force) for one in find_files(name, to, kinds, force=force, session=session)]


def find_files(
    name: str, to: str | Path | None, kinds: set[str], *, force: bool = False, session: Any = None
) -> list[Download]:
    """The files of a `download`, each fetched by its ``fetch``: none is before all are known and allowed."""
    session = session or aws.session()
    job = find(name, session)
    s3, folder = aws.client(session, "s3"), Path(to or job.name)
    found = {kind: _find(s3, job, kind, folder) for kind in sorted(kinds or {"model", "output"})}
    missing = [kind for kind, objects in found.items() if not objects]
    if missing and (kinds or len(missing) == len(found)):
        raise ValueError(
            f"{job.name} has no {' and no '.join(missing)} in S3: it is {job.status} ({job.secondary_status})."
            " HINT: `lightning-sagemaker jobs show` shows where they will be stored."
        )
    wanted = [one for several in found.values() for one in several]
    for path in (path for one in wanted if not (force or one.is_here) for path in (one.path, one.unpacked)):
        if path is not None and path.exists():
            raise FileExistsError(
                f"{path} exists, and differs from the job's file or is older. HINT: --to another folder, or --force."
            )
    return wanted


def unpack(archive: Path, folder: Path, *, force: bool = False) -> None:
    """Unpack an archive into a folder that is there once it is complete, and nothing outside of it.

    A ``ValueError`` says that it is damaged, or holds what does not belong into a folder (``../x``, links out of it,
    devices).
    """
    if folder.exists() and not force:
        raise FileExistsError(f"{folder} exists, and is not replaced. HINT: --force.")
    try:
        with complete_folder(folder) as new, tarfile.open(archive) as file:
            if hasattr(tarfile, "data_filter"):
                file.extractall(new, filter="data")
            else:
                _unpack_plain_files(file, new)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{archive} is not unpacked: {error}."
            " HINT: `tar -t` shows what it holds; once the file is removed, it is downloaded again."
        ) from error


def _unpack_plain_files(archive: tarfile.TarFile, folder: Path) -> None:
    """The same for a Python before 3.10.12 and 3.11.4 (Debian 12 has 3.11.2), which cannot refuse what leads out."""
    for member in archive:
        target = folder / member.name
        if not (member.isfile() or member.isdir()) or not target.resolve().is_relative_to(folder.resolve()):
            raise tarfile.TarError(f"{member.name!r} is no file within it, and this Python can check no more")
        (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
        if content := archive.extractfile(member):
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)


def _find(s3: Any, job: Job, kind: str, folder: Path) -> list[Download]:
    """Files of one kind; empty if there is nothing (yet)."""
    if kind == "checkpoints":
        return _below(s3, job.checkpoints, folder / kind)
    archive = plain = job.model
    if kind == "output":
        archive, plain = (job.output and f"{job.output}{name}" for name in (f"output{_ARCHIVE}", "data/"))
    # Where the job was sent with the compression type NONE, they are no archives.
    return _archive(s3, archive, folder / kind) or _below(s3, plain, folder / kind)


def _archive(s3: Any, uri: str | None, folder: Path) -> list[Download]:
    if not (uri and uri.endswith(_ARCHIVE)):
        return []
    bucket, key = aws.place(uri)
    try:
        found = s3.head_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        if aws.is_missing(error):
            return []
        raise
    path, modified = folder.with_name(f"{folder.name}{_ARCHIVE}"), found["LastModified"].timestamp()
    return [Download(uri, path, found["ContentLength"], unpacked=folder, _modified=modified, _s3=s3)]


def _below(s3: Any, uri: str | None, folder: Path) -> list[Download]:
    if not uri:
        return []
    bucket, prefix = aws.place(uri)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for one in page.get("Contents", ()):
            if not (key := one["Key"]).endswith("/"):  # which the console makes for a folder
                path, modified = folder / _inside(key.removeprefix(prefix)), one["LastModified"].timestamp()
                found.append(Download(f"s3://{bucket}/{key}", path, one["Size"], _modified=modified, _s3=s3))
    return found


def _inside(name: str) -> PurePosixPath:
    """A path below a folder, checked, since a key in S3 may be anything."""
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts or "\0" in name:
        raise ValueError(f"The key {name!r} in S3 points outside its folder. HINT: download the others by `aws s3 cp`.")
    return path


def size(number: int) -> str:
    """A number of bytes, for people."""
    thousands = min((len(str(number)) - 1) // 3, len(_UNITS) - 1)
    return f"{number / 1000**thousands:.4g} {_UNITS[thousands]}"
