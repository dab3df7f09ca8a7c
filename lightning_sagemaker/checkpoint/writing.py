"""Writing that a kill cannot turn into half a checkpoint."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lightning_sagemaker.checkpoint import drafts

if TYPE_CHECKING:
    from pathlib import Path


def save_whole(content: object, path: Path) -> None:
    """Write a checkpoint so that its name never stands for half of it, whenever the process is killed.

    It is written under another name in the same folder, which :func:`latest_checkpoint` never takes, flushed to the
    device, and renamed. What killed writers left in the folder is removed.

    Args:
        content: What :func:`torch.save` accepts.
        path: Where it shall be; a file there is replaced.

    Raises:
        OSError: It cannot be written; the file that was there before still is.
    """
    import torch  # noqa: PLC0415 - only a process that trains writes checkpoints

    drafts.remove_left(path.parent)
    draft = drafts.name(path)
    try:
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    with suppress(OSError):  # not every file system can flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
