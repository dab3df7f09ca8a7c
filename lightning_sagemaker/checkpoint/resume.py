"""Which checkpoint a job continues from."""

from __future__ import annotations

from lightning_sagemaker.checkpoint.newest import checkpoint_folder, latest_checkpoint
from lightning_sagemaker.messages import log, speak
from lightning_sagemaker.settings import RESUME, switch


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


def _beginning() -> str:
    folder = checkpoint_folder()
    where = "the job has no checkpoint folder" if folder is None else f"there is no whole checkpoint in {folder}"
    return f"starts from the beginning: {where}"
