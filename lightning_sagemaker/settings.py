"""How values of this package's environment variables are read: once, for those who go by them and for the doctor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RESUME = "LIGHTNING_SAGEMAKER_RESUME"

_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def seconds(name: str, default: float, environ: Mapping[str, str] | None = None) -> float:
    """Value of the variable ``name`` in seconds; 0 means off.

    Args:
        name: Variable, which begins with ``LIGHTNING_SAGEMAKER_``.
        default: What holds where the variable is unset or empty.
        environ: Environment to read, the process's own by default.

    Raises:
        ValueError: It is no number, or below zero.
    """
    text = (os.environ if environ is None else environ).get(name, "").strip()
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


def switch(name: str, environ: Mapping[str, str] | None = None, *, default: bool = False) -> bool:
    """Whether the variable ``name`` switches something on.

    Args:
        name: Variable, which begins with ``LIGHTNING_SAGEMAKER_``.
        environ: Environment to read, the process's own by default.
        default: What holds where the variable is unset or empty.

    Raises:
        ValueError: It is none of the words for on and off.
    """
    text = (os.environ if environ is None else environ).get(name, "").strip()
    value = _SWITCH.get(text.lower()) if text else default
    if value is None:
        raise ValueError(
            f"Environment variable `{name}`={text!r}; expected 1 (or true, yes, on) or 0 (or false, no, off). HINT:"
            f" leave it out for the default, {default:d}."
        )
    return value
