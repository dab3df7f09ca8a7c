"""Temporary folders of a simulation: gone at its end, also where a signal brings the end."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def raising_signals() -> Iterator[None]:
    """Within it, the signals that end a process raise, so that what stands in ``finally`` is done.

    The exit code is 128 + n, as a shell's. SIGINT raises without us. In a thread beside the main one nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in SIGNALS if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A temporary folder, removed at the end.

    Args:
        prefix: How its name begins.

    Yields:
        Its path, without links.
    """
    # A signal waits until the folder is known, and until it is gone: between, it raises and is not missed.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        made = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield made
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            shutil.rmtree(made)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
