"""The logger of this package, and how its lines of level INFO are shown."""

from __future__ import annotations

import logging

log = logging.getLogger("lightning_sagemaker")
_said: set[str] = set()


def speak() -> None:
    """Show our lines of level INFO, as Lightning does its own, unless the user has set logging up."""
    if not log.hasHandlers() and log.level == logging.NOTSET:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False


def say(text: str, *arguments: object) -> None:
    """Log at level INFO so that it is shown, see :func:`speak`."""
    speak()
    log.info(text, *arguments)


def warn_once(text: str) -> None:
    """Log a warning, once in this process."""
    if text not in _said:
        _said.add(text)
        log.warning("%s", text)
