"""The archive of the source folder, which the training toolkit unpacks in the job."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.arguments import ENTRY, ENTRY_ARGUMENTS, carry
from lightning_sagemaker.source_folder import link_within, read
from lightning_sagemaker.submit.requirements import REQUIREMENTS, needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.source_folder import Source
    from lightning_sagemaker.submit.training_job import TrainingJob


def python_files(folder: Path) -> Iterator[Path]:
    """Python files that are sent."""
    return (folder / name for name in read(folder).files if name.endswith(".py"))


def archive(job: TrainingJob, source: Source, target: Path, wheels: list[Path]) -> None:
    """Write the archive that is sent; the user's folder is not changed.

    Args:
        job: The job.
        source: What of its folder is sent.
        target: The archive.
        wheels: Wheels that lie beside ``requirements.txt``, which names them.
    """
    carried = carry(job.arguments)
    with tarfile.open(target, "w:gz") as tar, tempfile.TemporaryDirectory() as folder:
        for name in source.files:
            if name != REQUIREMENTS:
                member = tar.gettarinfo(job.folder / name, name)
                if member.issym():
                    member.linkname = link_within(job.folder, name)
                    tar.addfile(member)
                else:
                    tar.add(job.folder / name, name)
        for wheel in wheels:
            tar.add(wheel, wheel.name)
        if carried.by_entry_script:
            carried.write(Path(folder), job.entry)
            for name in (ENTRY, ENTRY_ARGUMENTS):
                tar.add(Path(folder, name), name)
        own = job.folder / REQUIREMENTS
        lines = [own.read_text(encoding="utf-8").rstrip("\n")] if own.is_file() else []
        _add_text(tar, REQUIREMENTS, "\n".join([*lines, *needed(job, wheels)]).lstrip("\n") + "\n")


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
