"""Logged metrics as lines of the job's log, where SageMaker's metric definitions find them.

Switched on by ``LIGHTNING_SAGEMAKER_METRICS=1``, which ``lightning-sagemaker submit`` sets: rank 0 prints what has
changed when a validation, an epoch or a test ends, as Lightning has computed it on all ranks by then.
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


class MetricLines:
    """Prints what has changed of a Trainer's metrics since the last line."""

    def __init__(self) -> None:
        self._printed: dict[str, float] = {}

    def write(self, metrics: Mapping[str, object], epoch: int, step: int) -> None:
        """Print one line, also where nothing has changed.

        Args:
            metrics: Values by name; those that are no single number are left out.
            epoch: Number of the epoch, from 0.
            step: Optimizer steps.
        """
        found = {name: number for name, value in metrics.items() if (number := _number(value)) is not None}
        changed = {name: value for name, value in found.items() if self._printed.get(name) != value}
        self._printed |= changed
        sys.stdout.write(line({"epoch": epoch, "step": step, **changed}) + "\n")
        sys.stdout.flush()


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # tensors raise the last
        return None
