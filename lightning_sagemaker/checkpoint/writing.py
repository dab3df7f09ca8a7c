"""Checkpoint writing that a kill cannot interrupt halfway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_sagemaker.checkpoint import other_hosts
from lightning_sagemaker.temporary_files import complete_file

if TYPE_CHECKING:
    from pathlib import Path


def save_whole(content: object, path: Path) -> None:
    """Write a checkpoint so that its name always refers to a complete file, whenever the process is killed.

    It is written to a temporary file in the same folder, which :func:`latest_checkpoint` never takes, flushed to the
    device, and renamed. What killed processes of this container left in the folder is removed. Other hosts of the job
    can have the file from this one.
    """
    import torch

    with complete_file(path) as file:
        torch.save(content, file)
    other_hosts.wrote(path)
