"""What several subcommands read from a command line alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_INPUT = 2  # exit code of every subcommand, as argparse's


def pairs(texts: Sequence[str], usage: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` texts.

    Args:
        texts: Values of a repeatable option.
        usage: The option and what it takes, for the error.

    Raises:
        ValueError: One has no ``=``.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            option = usage.split(maxsplit=1)[0]
            raise ValueError(f"{option} is {text!r}, expected a name, =, and a value. HINT: {usage}")
        found[name] = value
    return found
