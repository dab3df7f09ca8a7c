"""A large checkpoint of rank 0's, brought to another host: memory and seconds of both processes, in a file of each.

large_file.py --gigabytes 4
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from lightning.fabric import Fabric

from lightning_sagemaker.checkpoint.contents import digest
from lightning_sagemaker.checkpoint.other_hosts import fetch_if_missing

parser = argparse.ArgumentParser()
parser.add_argument("--gigabytes", type=float)
GIVEN = parser.parse_args()
PATH = Path("/opt/ml/model/large.ckpt")


def peak() -> float:
    """Most memory of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1000


fabric = Fabric(accelerator="cpu")
fabric.launch()
rank = fabric.global_rank
if rank == 0 and os.fork() == 0:  # its memory is not rank 0's
    torch.save({"weights": torch.ones(int(GIVEN.gigabytes * 2.5e8) + 1)}, PATH)
    os._exit(0)
if rank == 0:
    os.wait()
fabric.barrier()
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, start = peak(), time.monotonic()
fetch_if_missing(PATH)  # what `Fabric.load` does first
seconds = time.monotonic() - start
fabric.barrier()
figures = {
    "rank": rank,
    "bytes": PATH.stat().st_size,
    "digest": digest(PATH),
    "seconds": round(seconds, 1),
    "peak_growth_mb": round(peak() - before, 1),
}
# Not on its output, of which the toolkit's copy cuts lines.
Path("/opt/ml/output/figures.json").write_text(json.dumps(figures))
