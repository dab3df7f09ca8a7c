"""Threads that look after something beside the training, and that never end a job by a failure of their own."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable


def start(name: str, watch: Callable[[], None], lost: str, goodbye: Callable[[], None]) -> threading.Thread:
    """Start a watcher. What it raises is said in one line, and ends the watcher alone.

    Args:
        name: Of the thread.
        watch: What the thread does.
        lost: What nobody does any more once it has failed, in words.
        goodbye: Called when it has failed, so that others do not take its end for silence.

    Returns:
        The thread, which does not live where the system had none left.
    """

    def run() -> None:
        try:
            watch()
        except BaseException as error:  # noqa: BLE001 - a property of the user's may raise SystemExit
            fail(error)

    def fail(error: BaseException) -> None:
        with suppress(Exception):  # a log handler of the user's may raise too
            say_lost(lost, error)
        with suppress(Exception):
            goodbye()

    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        fail(error)
    return thread


def say_lost(lost: str, error: BaseException) -> None:
    """Say that something is not looked after any more, and why."""
    log.warning("%s The training goes on. Cause: %s: %s", lost, type(error).__name__, error)
