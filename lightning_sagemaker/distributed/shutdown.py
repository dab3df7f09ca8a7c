"""The clean exit of a process that trained with others.

gloo's threads let go of a collective's tensors some time after the training has learnt that it is done. Since tensors
belong to Python, that takes Python's lock, and a thread that asks for it while the interpreter ends is ended by force:
"terminate called without an active exception", exit code 134, after a successful training (pytorch#190489).
``destroy_process_group()`` waits for the threads only where nothing else holds the group, and a DDP model does.

So here the end waits until the threads sleep; the group stays as it is for exit handlers of the user's. A group of NCCL
is ended by Lightning itself (since 2.3).
"""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import sys
import time
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.background import run_with_limit

if TYPE_CHECKING:
    from collections.abc import Callable

_WORKER = "pt_gloo_runloop"  # name of gloo's threads
_LIMIT = 2.0  # seconds that the end of a process may take longer
_NAMELESS = 0.2  # seconds that are enough by experience, where torch is too old to give its threads names


def at_exit(function: Callable[[], None]) -> None:
    """Call a function when this process ends, also in a child forked by ``multiprocessing``, which skips `atexit`."""
    if multiprocessing.parent_process() is None:
        atexit.register(function)
    else:
        Finalize(None, function, exitpriority=0)


@functools.cache
def end_at_exit() -> None:
    """Arrange a clean exit of this process: the earlier this is called, the later it happens."""
    atexit.register(_end)


def _end() -> None:
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available():
        return
    if dist.is_initialized() and dist.get_backend() == "smddp" and not hasattr(sys, "last_value"):
        # After an exception the others may be gone: the group stays as it is.
        gc.collect()  # torch 2.5.1 has deadlocked where a DDP model was collected while its group ended
        run_with_limit(dist.destroy_process_group, _LIMIT)
    wait_for_workers(unknown=dist.is_initialized() and "gloo" in dist.get_backend_config())


def wait_for_workers(*, unknown: bool) -> None:
    """Wait until gloo's threads sleep, of which some may be unknown, and have no work left that needs Python's lock."""
    # A thread that waits for the lock wakes up each switch interval, to ask for it once more. One that does not run for
    # two of them, while the lock is free, waits for something else.
    until = time.monotonic() + _LIMIT
    before, now = None, _workers()
    if not now and unknown:
        time.sleep(_NAMELESS)
    while now and time.monotonic() < until and (now != before or not all(sleeps for sleeps, _ in now.values())):
        time.sleep(2 * sys.getswitchinterval())
        before, now = now, _workers()


def _workers() -> dict[str, tuple[bool, list[str]]]:
    """Gloo's threads in this process, none in a forked one: whether each sleeps, and how often it has run."""
    workers = {}
    for status in Path("/proc/self/task").glob("*/status"):
        with suppress(OSError):  # the thread has just ended
            lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
            if lines[0] == f"Name:\t{_WORKER}":
                sleeps = any(line.startswith("State:\tS") for line in lines)
                workers[status.parent.name] = sleeps, [line for line in lines if "ctxt_switches" in line]
    return workers
