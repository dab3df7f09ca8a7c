"""Export of a checkpoint as the job's model: a copy in the folder that SageMaker uploads when the job ends.

SageMaker makes ``model.tar.gz`` of that folder, and puts nothing into it by itself (sagemaker-python-sdk#1040, #3062).
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning_sagemaker.checkpoint.contents import local
from lightning_sagemaker.checkpoint.reading import read
from lightning_sagemaker.job import base_dir
from lightning_sagemaker.messages import log, say
from lightning_sagemaker.settings import EXPORT
from lightning_sagemaker.temporary_files import complete_file, complete_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HPARAMS = "hparams.yaml"  # Lightning's name: `load_from_checkpoint(..., hparams_file=...)`


def export(which: str, found: str, save_hparams: Callable[[str], None] | None) -> None:
    """Copy a checkpoint to ``best.ckpt`` or ``last.ckpt`` in the folder of the job's model, completely or not at all.

    The copy of an earlier ``fit`` is replaced. What goes wrong is said, and ends no job. ``found`` is a file, or the
    folder of a sharded strategy; empty where Lightning has written none.
    """
    folder = base_dir(os.environ) / "model"
    with _said(f"The {which} checkpoint {found}".rstrip(), folder):
        copied = _copy(found, folder, f"{which}.ckpt")
        say("The %s checkpoint %s is in the job's model: %s", which, found, copied)
    if save_hparams is not None:
        with _said(_HPARAMS, folder), complete_file(folder / _HPARAMS) as file:
            save_hparams(file.name)


@contextmanager
def _said(what: str, folder: Path) -> Iterator[None]:
    """Log an error instead of raising it: the rest of the script's results would be lost if it ended the job."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except Exception as error:  # noqa: BLE001 - hyperparameters are the user's objects, and may raise anything
        log.error(
            "%s is not in the job's model, %s: %s. HINT: %s asks for it. The training has ended well, and its"
            " checkpoints are where they were.",
            *(what, folder, error, EXPORT),
        )


def _copy(found: str, folder: Path, name: str) -> Path:
    if not found:
        raise ValueError("this training has written none (no ModelCheckpoint, or save_top_k=0)")
    source = local(found)
    if source is None:
        raise ValueError("it lies in a remote store, from which nothing is copied")
    if source.resolve().is_relative_to(folder.resolve()):
        return source
    target = folder / name
    if source.is_dir():
        read(source)  # shards that other hosts have written to disks of their own are missing here
        with complete_folder(target) as unfinished:
            shutil.copytree(source, unfinished, dirs_exist_ok=True)
        return target
    if target.is_dir():  # of an earlier fit, with a sharded strategy
        shutil.rmtree(target)
    with source.open("rb") as content, complete_file(target) as file:
        shutil.copyfileobj(content, file, 1 << 22)
    return target
