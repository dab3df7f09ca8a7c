"""Checkpoints: their folder, the one to continue from, and whole ones only. In SageMaker training jobs."""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job import in_training_job
from lightning_sagemaker.patches import first_time, replace_everywhere

if TYPE_CHECKING:
    from types import ModuleType

_fits = itertools.count()


def patch_model_checkpoint(module: ModuleType) -> None:
    """Let ``ModelCheckpoint`` write to the job's checkpoint folder, where the user chose no other.

    Args:
        module: ``*.callbacks.model_checkpoint`` of either distribution.
    """
    callback_class = module.ModelCheckpoint
    if not in_training_job(os.environ) or not first_time(callback_class):
        return
    setup = callback_class.setup

    @functools.wraps(setup)
    def setup_in_checkpoint_folder(callback: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # A root folder other than the default is the user's choice; a logger's folder is lost with the container.
        if callback.dirpath is None and os.path.abspath(trainer.default_root_dir) == os.getcwd():  # noqa: PTH100, PTH109
            from lightning_sagemaker.checkpoint.newest import checkpoint_folder  # noqa: PLC0415 - only where it is used

            folder = checkpoint_folder()
            callback.dirpath = None if folder is None else str(folder)
        setup(callback, trainer, *args, **kwargs)

    callback_class.setup = setup_in_checkpoint_folder


def patch_checkpoint_connector(module: ModuleType) -> None:
    """Let ``LIGHTNING_SAGEMAKER_RESUME=1`` continue from the newest checkpoint.

    Args:
        module: ``*.trainer.connectors.checkpoint_connector`` of either distribution.
    """
    connector_class = module._CheckpointConnector
    if not in_training_job(os.environ) or not first_time(connector_class, "resume"):
        return
    select = connector_class._select_ckpt_path

    @functools.wraps(select)
    def _select_ckpt_path(connector: Any, state_fn: Any, ckpt_path: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        fit = str(getattr(state_fn, "value", state_fn)) == "fit"
        # `trainer.ckpt_path = ...` is the user's choice too.
        if fit and next(_fits) == 0 and ckpt_path is None and not getattr(connector, "_user_managed", False):
            from lightning_sagemaker.checkpoint.resume import checkpoint_to_resume  # noqa: PLC0415 - only where it is used

            ckpt_path = checkpoint_to_resume()
        return select(connector, state_fn, ckpt_path, *args, **kwargs)

    connector_class._select_ckpt_path = _select_ckpt_path


def patch_atomic_save(module: ModuleType) -> None:
    """Let local checkpoints be written whole or not at all; Lightning's own way leaves half of one where it is killed.

    Args:
        module: ``*fabric.utilities.cloud_io`` of either distribution.
    """
    if not in_training_job(os.environ) or not first_time(module):
        return
    save = module._atomic_save

    @functools.wraps(save)
    def _atomic_save(checkpoint: Any, filepath: Any) -> None:  # noqa: ANN401
        if "://" in str(filepath):
            save(checkpoint, filepath)
            return
        from lightning_sagemaker.checkpoint.writing import save_whole  # noqa: PLC0415 - only where it is used

        save_whole(checkpoint, Path(filepath).expanduser())

    replace_everywhere(save, _atomic_save)
