"""A script whose ranks make their process group again and again, and start processes that have groups of their own.

It runs under torchrun, which restarts it once. Rank 1 comes late each time: what it told for an earlier group must not
be taken for what it tells now.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_sagemaker.distributed.store import default_store

RANK = int(os.environ["RANK"])
ATTEMPT = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
SEEN = Path(os.environ["SEEN"])
LATE = 1.5  # seconds: the others have read by then what is left of an earlier group
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
WORLD: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": int(os.environ["LOCAL_WORLD_SIZE"]),
    "num_nodes": int(os.environ["GROUP_WORLD_SIZE"]),
}

# A launcher that a rank starts: its world is its own, of two processes on this host.
NESTED = textwrap.dedent("""
    import os, sys, torch
    from lightning.fabric import Fabric
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    total = fabric.all_reduce(torch.ones(1), reduce_op="sum").item()
    with open(sys.argv[1] + os.environ["RANK"], "w") as file:
        file.write(f"{fabric.world_size} {total:.0f}")
""")
# A process that a rank starts, which makes a group without Lightning.
CHILD = textwrap.dedent("""
    import torch, torch.distributed as dist
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    dist.all_reduce(torch.ones(1))
    from lightning.pytorch import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel
    trainer = Trainer(accelerator="cpu", devices=1, fast_dev_run=True)
    trainer.fit(BoringModel())
    print(trainer.world_size, dist.get_world_size())
""")


def fit() -> Trainer:
    if RANK == 1:
        time.sleep(LATE)
    trainer = Trainer(**WORLD, **QUIET, strategy="ddp", max_steps=2)
    trainer.fit(BoringModel())
    return trainer


def started(*command: str) -> list[object]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return [done.returncode, done.stdout.splitlines()[-1:] if done.returncode == 0 else done.stderr[-3000:]]


def main() -> None:
    seen: dict[str, object] = {}
    kept = [fit()]  # whoever keeps it keeps its group, and perhaps the store
    if ATTEMPT == 0:
        if RANK == 1:
            script, result = SEEN / "nested.py", SEEN / "nested-"
            script.write_text(NESTED)
            torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
            seen["torchrun of a rank"] = [
                *started(*torchrun, str(script), str(result))[:1],
                *sorted(path.read_text() for path in SEEN.glob("nested-*")),
            ]
            seen["child of a rank"] = started(sys.executable, "-W", "ignore", "-c", CHILD)
        dist.barrier()
    for _ in range(2):
        dist.destroy_process_group()
        kept.append(fit())
    fabric = Fabric(**WORLD, strategy="ddp")
    fabric.launch()
    pair = dist.new_group([0, 1])
    ones = torch.ones(1)
    dist.all_reduce(ones, group=pair)
    total = fabric.all_reduce(torch.ones(1), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    seen["sums"] = [total.item(), ones.item()]
    seen["attempt"] = default_store().add("attempts of this rank", 1 << (4 * RANK))
    dist.barrier()
    (SEEN / f"{ATTEMPT}-{RANK}.json").write_text(json.dumps(seen))
    dist.barrier()
    if ATTEMPT == 0 and RANK == 1:
        raise RuntimeError("the first attempt fails")
    if ATTEMPT == 0:
        dist.barrier()  # which fails, as rank 1 is gone


if __name__ == "__main__":
    main()
