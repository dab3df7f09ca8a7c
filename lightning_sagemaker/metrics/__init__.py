"""Progress and metrics as lines of a job's log, where a person reads them and SageMaker's metric definitions find them.

Switched on by ``LIGHTNING_SAGEMAKER_METRICS=1``, which ``lightning-sagemaker submit`` sets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BEGIN = "lightning_sagemaker metrics:"
_NUMBER = r"([+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|inf|nan))"


def line(values: Mapping[str, float], note: str = "") -> str:
    """One line with these values."""
    text = " ".join([BEGIN, *(f"{name}={value:.8g};" for name, value in values.items())])
    return f"{text} ({note})" if note else text


def pattern(name: str) -> str:
    """Regular expression that finds a metric's value in such lines."""
    return f"{BEGIN}(?:.*;)? {re.escape(name)}={_NUMBER};"
