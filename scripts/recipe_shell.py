"""The shell of the Makefile's recipes: bash that, told to end, also ends what it has started; nothing is left in /tmp.

make passes SIGTERM on to a recipe's shell only; bash ends at once and leaves the command that it waits for. That
becomes a child of this process (`prctl(2)`, PR_SET_CHILD_SUBREAPER), which tells it too and waits until all have ended.
Ctrl-C reaches them all by itself: they stay in the terminal's process group.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_SUBREAPER = 36
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_TOLD: set[int] = set()  # once each: a second signal would disturb the end of a run of the tests


def main() -> int:
    """Run bash with the arguments; its exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        for number in _SIGNALS:
            signal.signal(number, _end)
    signal.signal(signal.SIGINT, lambda *_: None)  # bash has it too, and says how that ends
    temporary = tempfile.mkdtemp(prefix="make-")  # pip, if killed, does not remove its own
    kept = {"PYTEST_DEBUG_TEMPROOT": tempfile.gettempdir()}  # where folders of failed tests stay
    try:
        bash = os.posix_spawnp("bash", ["bash", *sys.argv[1:]], kept | dict(os.environ) | {"TMPDIR": temporary})
        code = os.waitstatus_to_exitcode(os.waitpid(bash, 0)[1])
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(temporary, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _end(number: int, _frame: object) -> None:
    with suppress(ChildProcessError):  # there is none left
        while True:
            for child in set(_children()) - _TOLD:
                _TOLD.add(child)
                os.kill(child, signal.SIGTERM)
            os.waitpid(-1, 0)  # its own children are ours now
    sys.exit(128 + number)


def _children() -> list[int]:
    return [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


if __name__ == "__main__":
    sys.exit(main())
