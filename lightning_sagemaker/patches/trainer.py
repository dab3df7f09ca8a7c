"""The Trainer: its explicit arguments, since later a default cannot be told from a choice; the end of what it runs."""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.checkpoint.export import export
from lightning_sagemaker.distributed.failure_file import report_exit
from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import wrap
from lightning_sagemaker.patches.checkpoints import is_trial
from lightning_sagemaker.settings import EXPORT, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

given: ContextVar[dict[str, Any]] = ContextVar("arguments of the Trainer or Fabric that is being made")  # by name


def patch_arguments(module: Any) -> None:
    """Record the explicit arguments while a Trainer is made."""

    @wrap(module.Trainer, "__init__", always=True)
    def __init__(initialize: Any, trainer: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if is_training_job(os.environ) and is_on("export"):
            word(EXPORT)  # a bad value is an error here, and not when the training is over
        with recorded(kwargs):
            initialize(trainer, *args, **kwargs)


@contextmanager
def recorded(kwargs: dict[str, Any]) -> Iterator[None]:
    """Record the explicit arguments while something is made."""
    token = given.set(kwargs)
    try:
        yield
    finally:
        given.reset(token)


def patch_run(module: Any) -> None:
    """Report ``sys.exit("reason")``; copy a checkpoint to the job's model when a ``fit`` has ended, if enabled.

    The copy is made after all callbacks and loggers.
    """

    @wrap(module.Trainer, "_run")
    def _run(run: Any, trainer: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            result = run(trainer, *args, **kwargs)
        except SystemExit as error:
            report_exit(error)
            raise
        which = word(EXPORT) if is_on("export") else ""
        if which and trainer.state.fn == "fit" and trainer.is_global_zero and not is_trial(trainer):
            saving = import_module(module.__name__.replace("trainer.trainer", "core.saving"))
            export(which, _chosen(trainer, which), _hparams_writer(trainer, saving))
        return result


def _chosen(trainer: Any, which: str) -> str:
    """Path of the best checkpoint, by the first ``ModelCheckpoint`` with a monitored metric; or of the newest."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if hasattr(callback, "best_model_path")]
    if which == "best":
        callbacks.sort(key=lambda callback: callback.monitor is None)
        paths = [callback.best_model_path for callback in callbacks]
    else:
        callbacks.sort(key=lambda callback: callback._last_global_step_saved, reverse=True)
        paths = [callback._last_checkpoint_saved for callback in callbacks]
        # Of an earlier start of the job, where this one had nothing left to train.
        paths += [path for callback in callbacks for path in (callback.last_model_path, callback.best_model_path)]
    return next((str(path) for path in paths if path), "")


def _hparams_writer(trainer: Any, saving: Any) -> Callable[[str], None] | None:
    holders = (trainer.datamodule, trainer.lightning_module)
    found = {name: value for holder in holders for name, value in dict(getattr(holder, "hparams_initial", {})).items()}
    found.pop("_class_path", None)  # LightningCLI's own
    return (lambda path: saving.save_hparams_to_yaml(path, found)) if found else None
