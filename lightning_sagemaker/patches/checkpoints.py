"""Checkpoints: their folder, the one to continue from, and complete ones only. In SageMaker training jobs."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.checkpoint import place, resume
from lightning_sagemaker.checkpoint.reading import MARK
from lightning_sagemaker.patches import wrap
from lightning_sagemaker.temporary_files import complete_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESUMED = "_lightning_sagemaker_resumed"
_WHOLE, _WEIGHTS = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's


def patch_model_checkpoint(module: Any) -> None:
    """Let ``ModelCheckpoint`` write where a restart finds it, if enabled; else warn about what would be lost.

    ``"last"`` is looked up by the same method as the folder for writing, before any ``setup``.
    """

    @wrap(module.ModelCheckpoint, "_ModelCheckpoint__resolve_ckpt_dir")
    def resolve_ckpt_dir(resolve: Any, callback: Any, trainer: Any) -> Any:
        folder = resolve(callback, trainer)
        if not resume.is_asked_for() or not place.is_lost(str(folder)):
            return folder
        if callback.dirpath is not None:  # the script's word
            place.link(str(folder))
            return folder
        return place.replacement(str(folder))

    @wrap(module.ModelCheckpoint, "setup")
    def setup_and_say_where(setup: Any, callback: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
        setup(callback, trainer, *args, **kwargs)
        if trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.fast_dev_run and callback.save_top_k:
            place.say_where(str(callback.dirpath))


def patch_checkpoint_connector(module: Any) -> None:
    """Let each ``fit`` continue from the newest checkpoint in its own place, if enabled."""
    connector_class = module._CheckpointConnector

    @wrap(connector_class, "_select_ckpt_path")
    def _select_ckpt_path(select: Any, connector: Any, state_fn: Any, ckpt_path: Any, *args: Any, **kwargs: Any) -> Any:
        trainer = connector.trainer
        vars(connector).pop(_RESUMED, None)  # of a fit that has failed before it was loaded
        if str(getattr(state_fn, "value", state_fn)) == "fit" and resume.is_asked_for() and not is_trial(trainer):
            resume.begin(trainer)
            # `trainer.ckpt_path = ...` is the user's choice too.
            if ckpt_path is None and not connector._user_managed:
                ckpt_path = vars(connector)[_RESUMED] = resume.checkpoint_to_resume(trainer)
        return select(connector, state_fn, ckpt_path, *args, **kwargs)

    @wrap(connector_class, "resume_start")
    def resume_start(start: Any, connector: Any, *args: Any, **kwargs: Any) -> None:
        with _load_whole() if vars(connector).get(_RESUMED) else nullcontext():
            start(connector, *args, **kwargs)

    @wrap(connector_class, "dump_checkpoint")
    def dump_checkpoint(dump: Any, connector: Any, *args: Any, **kwargs: Any) -> Any:
        checkpoint, mark = dump(connector, *args, **kwargs), resume.mark_of(connector.trainer)
        return checkpoint if mark is None else {**checkpoint, MARK: mark}

    @wrap(connector_class, "restore")
    def restore_and_go_on(restore: Any, connector: Any, *args: Any, **kwargs: Any) -> None:
        if (resumed := vars(connector).pop(_RESUMED, None)) is None:
            return restore(connector, *args, **kwargs)  # type: ignore[no-any-return]
        # A search at the beginning of this fit (`LearningRateFinder` as a callback) restores a checkpoint of its own,
        # and would leave nothing of the one that training continues from but the weights.
        kept = connector._loaded_checkpoint, connector._ckpt_path
        try:
            return restore(connector, *args, **kwargs)  # type: ignore[no-any-return]
        finally:
            connector._loaded_checkpoint, connector._ckpt_path = kept
            vars(connector)[_RESUMED] = resumed

    @wrap(connector_class, "resume_end")
    def resume_end(end: Any, connector: Any) -> None:
        resumed = vars(connector).pop(_RESUMED, None)
        if resumed and str(connector._ckpt_path) == resumed and connector.trainer.is_global_zero:
            resume.say_continued(resumed)
        end(connector)


def patch_save_checkpoint(module: Any) -> None:
    """Let a sharded checkpoint that is written anew in its place (`last.ckpt`) count as incomplete until it is not."""

    @wrap(module.Trainer, "save_checkpoint")
    def save_checkpoint(save: Any, trainer: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
        if trainer.is_global_zero and resume.is_asked_for():
            with suppress(OSError):  # torch's writers wait for rank 0 before the first of them writes
                Path(filepath, "meta.pt").unlink()
        save(trainer, filepath, *args, **kwargs)


@contextmanager
def _load_whole() -> Iterator[None]:
    """Let torch load all that this job's own training has saved (paths, enums), unless somebody chose otherwise.

    A restart that fails by torch's default would lose what the script without it would have trained once more.
    """
    if _WHOLE in os.environ or _WEIGHTS in os.environ:
        yield
        return
    os.environ[_WHOLE] = "1"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", f"Environment variable {_WHOLE}")
            yield
    finally:
        os.environ.pop(_WHOLE, None)


def patch_atomic_save(module: Any) -> None:
    """Write local checkpoints completely or not at all; Lightning leaves an incomplete file when it is killed."""

    @wrap(module, "_atomic_save")
    def _atomic_save(save: Any, checkpoint: Any, filepath: Any) -> None:
        if "://" in str(filepath):
            save(checkpoint, filepath)
            return
        save_whole(checkpoint, Path(filepath).expanduser())


def save_whole(content: object, path: Path) -> None:
    """Write a checkpoint so that its name always refers to a complete file, whenever the process is killed.

    Other hosts of the job can have the file from this one.
    """
    import torch

    from lightning_sagemaker.checkpoint import other_hosts

    with complete_file(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # of torch's writer as it closes a file that has no room, instead of the reason
            if isinstance(reason := error.__context__, OSError):
                raise OSError(reason.errno, reason.strerror, str(path)) from error
            raise
    other_hosts.offer(path)


def is_trial(trainer: Any) -> bool:
    """Whether a fit leaves nothing behind: a ``fast_dev_run``, or a Tuner's search."""
    return bool(trainer.fast_dev_run) or any(getattr(callback, "_early_exit", False) for callback in trainer.callbacks)
