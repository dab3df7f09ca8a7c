"""Ends right after a collective, while gloo's threads hardly get to run: where stock torch often aborts.

Both processes of a pair run this; arguments: how to end, and whether to end quietly.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist

from lightning_sagemaker.distributed.shutdown import _WORKER, end_at_exit


def starve_workers() -> None:
    """Let gloo's threads run only when nothing else wants their processor, and let something want it."""
    processor = sorted(os.sched_getaffinity(0))[dist.get_rank() % len(os.sched_getaffinity(0))]
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processor})
        if (thread / "comm").read_text().strip() == _WORKER:
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
    if os.fork() == 0:
        keep_busy(seconds=1.5)


def keep_busy(seconds: float) -> NoReturn:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    os._exit(0)


def end(how: str) -> None:
    if how == "raise":
        raise ValueError("the user's own")
    if how == "exit":
        sys.exit(3)


if __name__ == "__main__":
    if sys.argv[2] == "quiet":
        end_at_exit()
    dist.init_process_group("gloo")
    with suppress(PermissionError):
        starve_workers()
    for _ in range(5):
        tensor = torch.ones(1000)
        dist.all_reduce(tensor)
    if sys.argv[1] == "destroy":
        held = dist.group.WORLD  # as a DDP model does
        dist.destroy_process_group()
    end(sys.argv[1])
