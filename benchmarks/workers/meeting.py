"""Makes a process group again and again, with the package's checks and without, in turn.

meeting.py --folder FOLDER --rounds N, as the script of a job of several hosts, one process on each

All processes meet at a store of this program's own before each time, so what is measured is the checks, and not that
hosts start apart. Rank 0 writes, for each arm, the seconds of the slowest process of each round.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import torch.distributed as dist
from lightning.fabric.utilities.distributed import _init_dist_connection

from lightning_sagemaker import SageMakerEnvironment
from lightning_sagemaker.distributed.store import Store, TCPStore

# Arm: seconds of LIGHTNING_SAGEMAKER_REACHABILITY and _HEARTBEAT.
ARMS = {"on": ("120", "300"), "off": ("0", "0")}
_OWN_PORT, _FIRST_PORT = 20000, 20001


def main() -> None:
    """Make all groups, and write down how long each took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    given = parser.parse_args()
    job = SageMakerEnvironment().job
    rank, world_size = job.node_rank, job.num_nodes
    own = TCPStore(job.main_address, _OWN_PORT, world_size, is_master=rank == 0)
    taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
    first = 0.0
    for index in range(given.rounds * len(ARMS)):
        arm = list(ARMS)[(index + index // len(ARMS)) % len(ARMS)]  # neither is always the first of its pair
        os.environ["LIGHTNING_SAGEMAKER_REACHABILITY"], os.environ["LIGHTNING_SAGEMAKER_HEARTBEAT"] = ARMS[arm]
        os.environ["MASTER_PORT"] = str(_FIRST_PORT + index)
        environment: Any = SageMakerEnvironment()
        together(own, f"before {index}", world_size)
        start = time.perf_counter()
        _init_dist_connection(environment, "gloo", rank, world_size)
        seconds = time.perf_counter() - start
        first = first or time.time() - psutil.Process().create_time()
        own.set(f"{index}/{rank}", str(seconds))  # and all are read, so that nobody takes its store away too early
        taken[arm].append(max(float(own.get(f"{index}/{other}")) for other in range(world_size)))
        dist.destroy_process_group()
    if rank == 0:
        (given.folder / "taken.json").write_text(json.dumps({"first": first, **taken}))
    together(own, "the end", world_size)  # rank 0 keeps the store until the others have read it


def together(store: Store, key: str, number: int) -> None:
    """Wait for all processes."""
    if store.add(key, 1) == number:
        store.set(f"{key}, all", "")
    store.wait([f"{key}, all"])


if __name__ == "__main__":
    main()
