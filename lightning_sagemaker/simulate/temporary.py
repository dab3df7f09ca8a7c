"""Temporary folders of a simulation: gone at its end, also where a signal brings the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.options import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def handling_signals(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Within it, the signals that end a process go to a handler; in a thread beside the main one that cannot be."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        # nohup ignores the end of the terminal for what it starts.
        meant = (one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN)
        before = {number: signal.signal(number, handler) for number in meant}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def raise_signal(number: int, _frame: Any) -> None:
    """A handler that ends the process, with what stands in ``finally``, and a shell's exit code."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextlib.contextmanager
def folder(prefix: str, where: str | None = None) -> Iterator[Path]:
    """A temporary folder, its path without links, removed at the end."""
    # A signal waits until the folder is known, and until it is gone: between, it raises and is not missed.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=where)).resolve()
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield made
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            remove(made)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def remove(folder: Path) -> None:
    """Remove a folder with what a script left in it, folders without the right to write among it.

    What stays all the same is named: the job has ended as it has.
    """
    for here, names, _ in os.walk(folder):  # each before what is in it is listed
        for name in names:
            path = os.path.join(here, name)  # noqa: PTH118 - of any bytes, as os.walk has it
            with contextlib.suppress(OSError):
                if not os.path.islink(path):  # noqa: PTH114
                    os.chmod(path, 0o700)  # noqa: PTH101
    try:
        shutil.rmtree(folder)
    except OSError as error:
        write(f"simulate: the folder {folder} could not be removed: {error}. HINT: rm -r, as its owner.\n", sys.stderr)
