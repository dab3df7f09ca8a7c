"""What writing a checkpoint costs, ours against Lightning's own: time, and memory on top of the checkpoint itself.

Each write runs in a process of its own.
"""

import resource
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.samples import Measured, Numbers, in_turn

ARMS = ("stock", "stock again", "ours")


def write(arm: str, megabytes: int) -> Numbers:
    """Write one checkpoint in this process."""
    import torch  # noqa: PLC0415 - each arm's process pays for itself
    from lightning.fabric.utilities.cloud_io import _atomic_save  # noqa: PLC0415

    from lightning_sagemaker.patches.checkpoints import save_whole  # noqa: PLC0415

    content = {f"layer{index}": torch.ones(10 * 250_000) for index in range(megabytes // 10)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{arm}.ckpt")
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        save_whole(content, path) if arm == "ours" else _atomic_save(content, path)
        seconds = time.perf_counter() - begin
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"write_seconds": seconds, "memory on top, MB": more / 1024}


def measure(launches: int = 7, megabytes: int = 500) -> Iterator[Measured]:
    """Write checkpoints.

    Args:
        launches: Of each arm.
        megabytes: Of the checkpoint.
    """
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        arms = {arm: partial(pool.apply, write, (arm, megabytes)) for arm in ARMS}
        yield from in_turn(f"{megabytes} MB", launches, arms)
