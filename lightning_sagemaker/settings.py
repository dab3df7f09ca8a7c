"""Settings of ours that are a number of seconds in an environment variable."""

from __future__ import annotations

import os


def seconds(name: str, default: float) -> float:
    """Value of the variable ``name`` in seconds; 0 means off.

    Args:
        name: Variable, which begins with ``LIGHTNING_SAGEMAKER_``.
        default: What holds where the variable is unset or empty.

    Raises:
        ValueError: It is no number, or below zero.
    """
    text = os.environ.get(name, "").strip()
    try:
        value = float(text or default)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(
            f"Environment variable `{name}`={text!r}; expected a number of seconds, 0 to switch it off. HINT: leave it"
            f" out for the default, {default:g} s."
        )
    return value
