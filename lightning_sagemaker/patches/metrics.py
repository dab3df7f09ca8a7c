"""Lines of progress and metrics for every Trainer, with ``LIGHTNING_SAGEMAKER_METRICS=1``."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.messages import log
from lightning_sagemaker.metrics.lines import MetricLines, Progress
from lightning_sagemaker.patches import wrap
from lightning_sagemaker.patches.trainer import given
from lightning_sagemaker.settings import METRICS, PROGRESS, seconds, switch

if TYPE_CHECKING:
    from collections.abc import Callable

_VARIABLE = "PL_TRAINER_ENABLE_PROGRESS_BAR"  # Lightning's own
_LINES = "_lightning_sagemaker_lines"


def patch_logger_connector(module: Any) -> None:
    """Print a Trainer's progress and metrics on rank 0, if the variable enables it.

    Only what Lightning has computed is read, after it has: when a batch ends, and when its hooks at the end of an epoch
    have run and all ranks have computed its metrics. To ask ``trainer.callback_metrics`` would compute what is not
    computed yet, by reductions on this rank alone.
    """

    @wrap(module._LoggerConnector, "on_trainer_init", always=True)
    def on_trainer_init_with_lines(on_trainer_init: Any, connector: Any, *args: Any, **kwargs: Any) -> None:
        setattr(connector, _LINES, MetricLines(seconds(PROGRESS)) if switch(METRICS) else None)
        on_trainer_init(connector, *args, **kwargs)

    for name, tell in (
        ("reset_metrics", lambda connector, lines: connector.trainer.is_global_zero and lines.begin()),
        ("update_train_step_metrics", _after_batch),
        ("update_train_epoch_metrics", _after_epoch),
        ("update_eval_step_metrics", _during_evaluation),
        ("log_eval_end_metrics", _after_evaluation),
        ("teardown", lambda _, lines: lines.end()),
    ):
        wrap(module._LoggerConnector, name, always=True)(_then(tell))


def patch_callback_connector(module: Any) -> None:
    """Let a Trainer's default progress bar draw nothing if lines show the progress.

    It stays where it is, for scripts that look for it; Lightning's own word for a bar that is off is a refresh rate of
    0, which its searches for a learning rate do not switch on again.
    """

    @wrap(module._CallbackConnector, "_configure_progress_bar")
    def _configure_progress_bar(configure: Any, connector: Any, *args: Any, **kwargs: Any) -> None:
        callbacks = connector.trainer.callbacks
        chosen = len(callbacks)
        configure(connector, *args, **kwargs)
        has_choice = given.get({}).get("enable_progress_bar") is not None or _VARIABLE in os.environ
        if switch(METRICS) and seconds(PROGRESS) and not has_choice:
            callbacks[chosen:] = [type(bar)(refresh_rate=0) for bar in callbacks[chosen:]]


def _then(tell: Callable[[Any, MetricLines], object]) -> Any:
    def update_and_tell(update: Any, connector: Any, *args: Any, **kwargs: Any) -> Any:
        result = update(connector, *args, **kwargs)
        lines = getattr(connector, _LINES, None)
        if lines is not None:
            try:
                tell(connector, lines)
            except Exception as error:  # noqa: BLE001 - a full disk, a user's metric or stream: no reason to end a job
                setattr(connector, _LINES, None)
                log.warning("This Trainer prints no more lines of progress: %s: %s", type(error).__name__, error)
        return result

    return update_and_tell


def _after_batch(connector: Any, lines: MetricLines) -> None:
    if lines.is_due(trained=True):
        lines.after_batch(connector._callback_metrics, _place(connector.trainer))


def _after_epoch(connector: Any, lines: MetricLines) -> None:
    if connector.trainer.is_global_zero:
        lines.after_epoch(connector._callback_metrics, _place(connector.trainer))


def _during_evaluation(connector: Any, lines: MetricLines) -> None:
    if lines.is_due(trained=False):
        trainer = connector.trainer
        loop = trainer._evaluation_loop
        batch, batches = loop.batch_progress.current.ready, sum(loop.max_batches)
        of = f" of {batches}" if batch <= batches < math.inf else ""
        lines.during_evaluation(_place(trainer), f"{trainer.state.stage.value}: batch {batch}{of}")


def _after_evaluation(connector: Any, lines: MetricLines) -> None:
    trainer = connector.trainer
    if trainer.is_global_zero and not trainer.sanity_checking:
        lines.after_evaluation(connector._callback_metrics, _place(trainer))


def _place(trainer: Any) -> Progress:
    bar = trainer.progress_bar_callback
    has_bar = bar is not None and getattr(bar, "is_enabled", True)
    place = Progress(trainer.current_epoch, trainer.global_step, has_bar=has_bar)
    return place._replace(steps=_steps(trainer), share=_share(trainer)) if trainer.state.fn == "fit" else place


def _steps(trainer: Any) -> int | None:
    """Optimizer steps of a fit as Lightning estimates them, if they end."""
    if not trainer.lightning_module.automatic_optimization:
        return None  # each optimizer's steps count, and only the script knows how many there are to a batch
    try:
        steps = trainer.estimated_stepping_batches
    except Exception:  # noqa: BLE001 - `MisconfigurationException`, where accumulation changes between epochs
        return None
    return int(steps) if 0 < steps < math.inf else None


def _share(trainer: Any) -> float | None:
    """Part of a fit that is done, by the limit that will end it, if there is one."""
    shares = []
    if trainer.max_steps != -1:
        shares.append(trainer.global_step / trainer.max_steps)
    epochs, batches = trainer.max_epochs, trainer.num_training_batches
    if epochs not in (None, -1) and batches < math.inf:
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        shares.append((trainer.current_epoch + batch / batches) / epochs)
    return max(shares, default=None)
