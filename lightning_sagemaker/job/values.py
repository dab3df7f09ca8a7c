"""Strict reading of single values: each error names variable or file, its value, what was expected and the fix."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAMAGED = (
    "HINT: SageMaker writes this value: do not overwrite it. In mpirun modes variables travel through"
    " /etc/environment, which cuts them at `#` and at line ends: avoid both in hyperparameters."
)
# SageMaker's job page shows the first 1024 characters of a message, and the fix stands last.
_SHOWN = 8  # names listed before "..."
_SHOWN_CHARACTERS = 120


def integer(environ: Mapping[str, str], name: str, *, least: int = 0, most: int = 10**8) -> int | None:
    """Value of a variable; ``None`` if it is unset or empty (the toolkit writes ``None`` as an empty string)."""
    text = environ.get(name)
    if not text:
        return None
    if re.fullmatch("[0-9]{1,10}", text) and least <= int(text) <= most:
        return int(text)
    raise ValueError(
        f"Environment variable `{name}`={shown(text)}; expected an integer from {least} to {most}. HINT: SageMaker or"
        f" the launcher sets `{name}`; remove it from the job's environment and from your entry script."
    )


def json_value(text: str, where: str) -> Any:
    """Parsed JSON of the variable or file ``where``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}): {shown(text)}. {DAMAGED}") from error


def names(value: object, where: str) -> tuple[str, ...]:
    """A JSON list of host names."""
    if isinstance(value, list) and value and all(isinstance(name, str) and name for name in value):
        if repeated := [name for name, times in Counter(value).items() if times > 1]:
            raise ValueError(f"{where} repeats {some(repeated)}; expected distinct host names. {DAMAGED}")
        return tuple(value)
    raise ValueError(f"{where} is {shown(value)}; expected a list of host names, at least one. {DAMAGED}")


def some(values: Sequence[str]) -> str:
    """The names as prose; a long list is shortened."""
    return ", ".join(values[:_SHOWN]) + (f", ... ({len(values)} in all)" if len(values) > _SHOWN else "")


def shown(value: object) -> str:
    """The value as Python writes it; a long one is shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
