"""Lines of metrics for every Trainer, where ``LIGHTNING_SAGEMAKER_METRICS=1`` asks for them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.metrics import VARIABLE, callback
from lightning_sagemaker.patches import first_time
from lightning_sagemaker.settings import switch

if TYPE_CHECKING:
    from types import ModuleType


def patch_callback_connector(module: ModuleType) -> None:
    """Give each Trainer the callback that prints its metrics, where the variable asks for it.

    Lightning's entry point for callbacks would import this package where it was switched off, and half-way through the
    construction of a Trainer.

    Args:
        module: ``*.trainer.connectors.callback_connector`` of either distribution.
    """
    connector_class = module._CallbackConnector
    if not first_time(connector_class):
        return
    on_trainer_init = connector_class.on_trainer_init

    @functools.wraps(on_trainer_init)
    def on_trainer_init_with_metrics(connector: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        asked = switch(VARIABLE)
        on_trainer_init(connector, *args, **kwargs)
        if asked:
            connector.trainer.callbacks.insert(0, callback(module.Callback))

    connector_class.on_trainer_init = on_trainer_init_with_metrics
