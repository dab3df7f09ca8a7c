"""Background threads: an error in one ends only that thread, never the job."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable

    Result = TypeVar("Result")


def start(name: str, work: Callable[[], None], lost: str, on_failure: Callable[[], None]) -> threading.Thread:
    """Start a background thread. What it raises becomes one line in the log, and ends only the thread.

    ``lost`` is a sentence about what is no longer done then, also where the system has no thread left.
    """

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a property of the user's may raise SystemExit
            fail(error)

    def fail(error: BaseException) -> None:
        with suppress(Exception):  # a log handler of the user's may raise too
            warn_lost(lost, error)
        with suppress(Exception):
            on_failure()

    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        fail(error)
    return thread


def warn_lost(lost: str, error: BaseException) -> None:
    """Warn in one line of what this package no longer does, and why."""
    log.warning("%s The training continues. Cause: %s: %s", lost, type(error).__name__, error)


def run_with_limit(function: Callable[[], Result], seconds: float) -> Result | None:
    """Call a function that may hang, in a thread; ``None`` where it has raised, hangs, or no thread is left."""
    results: list[Result] = []

    def run() -> None:
        with suppress(Exception):
            results.append(function())

    thread = threading.Thread(target=run, daemon=True)
    with suppress(RuntimeError):
        thread.start()
        thread.join(seconds)
    return results[0] if results else None
