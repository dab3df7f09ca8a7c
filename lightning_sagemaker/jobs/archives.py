"""Unpacks a training job's archives: completely or not at all, and nothing outside the folder."""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from pathlib import Path


def unpack(archive: Path, folder: Path, *, force: bool = False) -> None:
    """Unpack an archive into a folder that exists only once it is complete.

    Args:
        archive: A tar file, compressed or not.
        folder: Where its content shall lie.
        force: Whether a folder that is there is replaced.

    Raises:
        OSError: The folder is there, or cannot be written.
        ValueError: The archive is damaged, or holds what does not belong into a folder (``../x``, links out
            of it, devices), or this Python cannot tell.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(
            f"{archive} is not unpacked: this Python cannot refuse paths outside its folder."
            " HINT: Python 3.10.12, 3.11.4 or newer; or look at `tar -t`, and unpack it yourself."
        )
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as there:
        new = Path(there, "new")
        new.mkdir()
        try:
            with tarfile.open(archive) as file:
                file.extractall(new, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{archive} is not unpacked: {error}."
                " HINT: `tar -t` shows what it holds; once the file is removed, it is downloaded again."
            ) from error
        if force and folder.exists():
            folder.rename(Path(there, "old"))
        new.rename(folder)
