"""The logger of this package, and how its lines of level INFO are shown."""

from __future__ import annotations

import logging

log = logging.getLogger("lightning_sagemaker")


def speak() -> None:
    """Show our lines of level INFO, as Lightning does its own, unless the user has set logging up."""
    if not log.hasHandlers() and log.level == logging.NOTSET:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False
