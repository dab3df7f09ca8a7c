"""Lines of metrics for every Trainer, where ``LIGHTNING_SAGEMAKER_METRICS=1`` asks for them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.metrics import VARIABLE, MetricLines
from lightning_sagemaker.patches import first_time
from lightning_sagemaker.settings import switch

if TYPE_CHECKING:
    from types import ModuleType

_LINES = "_lightning_sagemaker_lines"
# The last things that Lightning does with an epoch's metrics: its hooks have run, and all ranks have computed them.
_ENDS = ("update_train_epoch_metrics", "log_eval_end_metrics")


def patch_logger_connector(module: ModuleType) -> None:
    """Print a Trainer's metrics on rank 0 at the end of each epoch, where the variable asks for it.

    Only what Lightning has computed is read. To ask ``trainer.callback_metrics`` would compute what is not yet, by
    reductions on this rank alone.

    Args:
        module: ``*.trainer.connectors.logger_connector.logger_connector`` of either distribution.
    """
    connector_class = module._LoggerConnector
    if not first_time(connector_class):
        return
    on_trainer_init = connector_class.on_trainer_init

    @functools.wraps(on_trainer_init)
    def on_trainer_init_with_lines(connector: Any, *args: Any, **kwargs: Any) -> None:
        setattr(connector, _LINES, MetricLines() if switch(VARIABLE) else None)
        on_trainer_init(connector, *args, **kwargs)

    connector_class.on_trainer_init = on_trainer_init_with_lines
    for name in _ENDS:
        setattr(connector_class, name, _then_print(getattr(connector_class, name)))


def _then_print(update: Any) -> Any:
    @functools.wraps(update)
    def update_and_print(connector: Any, *args: Any, **kwargs: Any) -> Any:
        result = update(connector, *args, **kwargs)
        lines, trainer = getattr(connector, _LINES, None), connector.trainer
        if lines is not None and trainer.is_global_zero and not trainer.sanity_checking:
            lines.write(connector._callback_metrics, trainer.current_epoch, trainer.global_step)
        return result

    return update_and_print
