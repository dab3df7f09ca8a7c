"""The quiet end of a process group."""

from __future__ import annotations

import atexit
import functools
import gc

import torch.distributed as dist


@functools.cache
def end_at_exit() -> None:
    """Let the default process group be destroyed when the interpreter exits, after what refers to it in cycles."""
    atexit.register(_end)


def _end() -> None:
    if dist.is_initialized():
        gc.collect()  # a DDP model that is collected while the group ends has deadlocked (torch 2.5.1)
        dist.destroy_process_group()
