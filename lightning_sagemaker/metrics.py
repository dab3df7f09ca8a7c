"""Logged metrics as lines of the job's log, where SageMaker's metric definitions find them.

Switched on by ``LIGHTNING_SAGEMAKER_METRICS=1``, which ``lightning-sagemaker submit`` sets: rank 0 prints what has
changed when a validation, an epoch or a test ends.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "LIGHTNING_SAGEMAKER_METRICS"
BEGIN = "lightning_sagemaker metrics:"
_NUMBER = r"([+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|inf|nan))"


def line(values: Mapping[str, float]) -> str:
    """One line with these values."""
    return " ".join([BEGIN, *(f"{name}={value:.8g};" for name, value in values.items())])


def pattern(name: str) -> str:
    """Regular expression that finds a metric's value in such lines."""
    return f"{BEGIN}(?:.*;)? {re.escape(name)}={_NUMBER};"


def callback(base: type) -> Any:  # noqa: ANN401 - of either distribution
    """The callback that prints the lines.

    Args:
        base: ``Callback`` of the distribution whose Trainer it serves.
    """
    return type("MetricLines", (_MetricLines, base), {})()


class _MetricLines:
    """Prints what has changed of the Trainer's ``callback_metrics``."""

    def __init__(self) -> None:
        self._printed: dict[str, float] = {}

    def on_train_start(self, trainer: Any, _module: Any) -> None:  # noqa: ANN401
        self._print(trainer)

    def on_validation_end(self, trainer: Any, _module: Any) -> None:  # noqa: ANN401
        if not trainer.sanity_checking:
            self._print(trainer)

    def on_train_epoch_end(self, trainer: Any, _module: Any) -> None:  # noqa: ANN401
        self._print(trainer)

    def on_test_end(self, trainer: Any, _module: Any) -> None:  # noqa: ANN401
        self._print(trainer)

    def _print(self, trainer: Any) -> None:  # noqa: ANN401
        if not trainer.is_global_zero:
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        changed = {name: value for name, value in found.items() if self._printed.get(name) != value}
        self._printed |= changed
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        sys.stdout.write(line({**place, **changed}) + "\n")
        sys.stdout.flush()
