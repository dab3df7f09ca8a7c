"""Which checkpoint a job continues from, on all of its ranks."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist

from lightning_sagemaker.checkpoint.newest import checkpoint_folder, latest_checkpoint
from lightning_sagemaker.checkpoint.reading import progress
from lightning_sagemaker.failure import whereabouts
from lightning_sagemaker.messages import log, speak
from lightning_sagemaker.settings import RESUME, switch
from lightning_sagemaker.store import PrefixStore, default_store, look, wait_for

_agreements = itertools.count()  # all ranks start their fits in the same order


def checkpoint_to_resume() -> str | None:
    """Newest whole checkpoint, where ``LIGHTNING_SAGEMAKER_RESUME`` asks for it; ``None`` elsewhere.

    Raises:
        ValueError: The variable is malformed.
    """
    if not switch(RESUME):
        return None
    newest = latest_checkpoint()
    speak()
    log.info("%s=1: training %s", RESUME, f"continues from {newest}" if newest else _beginning())
    return str(newest) if newest else None


def agree(path: str | Path | None) -> None:
    """Compare this rank's choice with rank 0's: the steps, and the path below the checkpoint folder.

    Args:
        path: Checkpoint that this rank would continue from, or ``None``.

    Raises:
        ValueError: Some rank would continue from another one; the same text on all ranks.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    store = PrefixStore(f"resume/{next(_agreements)}", default_store())
    choice = _in_words(path)
    if dist.get_rank() == 0:
        store.set("first", choice)
    elif (first := wait_for(store, "first").decode()) != choice:
        store.set("dispute", f"rank 0 would continue from {first}, but {whereabouts()} from {choice}")
    if store.add("compared", 1) == dist.get_world_size():
        store.set("done", "")
    wait_for(store, "done")
    if dispute := look(store, "dispute"):
        raise ValueError(
            f"The ranks would continue from different checkpoints: {dispute.decode()}. HINT: all hosts"
            " must find the same files: let one rank write checkpoints, into the folder that the job's checkpoint"
            " configuration synchronizes."
        )


def _beginning() -> str:
    folder = checkpoint_folder()
    where = "the job has no checkpoint folder" if folder is None else f"there is no whole checkpoint in {folder}"
    return f"starts from the beginning: {where}"


def _in_words(path: str | Path | None) -> str:
    if not path:
        return "the beginning"
    file = Path(path).expanduser()
    folder = checkpoint_folder()
    # Hosts may have the folder in different places.
    name = file.relative_to(folder) if folder is not None and file.is_relative_to(folder) else file
    with suppress(OSError, ValueError):
        return f"{name} (step {progress(file)[0]})"
    return str(name)
