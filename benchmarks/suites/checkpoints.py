"""What writing a checkpoint costs, ours against Lightning's own: time, and memory on top of the checkpoint itself.

Each write runs in a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.samples import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.samples import Measured, Numbers

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


def _in_process(arm: str, megabytes: int) -> Numbers:
    code = f"import json; from {__name__} import write; print(json.dumps(write({arm!r}, {megabytes})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    found: Numbers = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(launches: int = 7, megabytes: int = 500) -> Iterator[Measured]:
    """Write checkpoints.

    Args:
        launches: Of each arm.
        megabytes: Of the checkpoint.
    """
    arms = {arm: partial(_in_process, arm, megabytes) for arm in ARMS}
    return in_turn(f"{megabytes} MB", launches, arms)
