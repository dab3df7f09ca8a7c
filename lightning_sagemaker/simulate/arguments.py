"""A script's arguments as hyperparameters, the only form in which a SageMaker job can carry them."""

from __future__ import annotations

import math
import re


def parse_arguments(arguments: tuple[str, ...]) -> tuple[dict[str, object], list[str]]:
    """Split a script's arguments into hyperparameters and what cannot be one.

    Args:
        arguments: The arguments as given.

    Returns:
        The hyperparameters by name, and the arguments left over.
    """
    hyperparameters: dict[str, object] = {}
    rest: list[str] = []
    index = 0
    while index < len(arguments):
        option, equals, value = arguments[index].partition("=")
        is_option = re.fullmatch(r"--[A-Za-z][\w.-]*|-[A-Za-z]", option) is not None
        has_next = index + 1 < len(arguments) and not re.match(r"-[A-Za-z-]", arguments[index + 1])
        name = option.lstrip("-")
        if is_option and name not in hyperparameters and (equals or has_next):
            hyperparameters[name] = _number_or_text(value if equals else arguments[index + 1])
            index += 1 if equals else 2
        else:
            rest.append(arguments[index])
            index += 1
    return hyperparameters, rest


def _number_or_text(text: str) -> object:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and math.isfinite(number):
            return number
    return text
