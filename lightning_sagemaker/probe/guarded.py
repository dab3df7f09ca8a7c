"""A look that may raise or hang: either is an answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def first_line(error: BaseException) -> str:
    """Name and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def guarded(look: Callable[[], Any], limit: float) -> Any:
    """What a look returns; ``{"error": ...}`` where it raises, ``{"hang": ...}`` where it takes too long.

    Args:
        look: It runs in a thread of its own, which is left behind if it hangs.
        limit: Seconds.
    """
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(look())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the next look shall follow
            answers.append({"error": first_line(error)})

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    return answers[0] if answers else {"hang": f"no answer within {limit:g} s"}
