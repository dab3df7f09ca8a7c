"""The barrier at the store, between real ranks."""

from __future__ import annotations

import re
import subprocess
import sys

BARRIER = """
import os, sys, time
import torch.distributed as dist
from lightning_sagemaker.distributed import waiting
from lightning_sagemaker.smddp.collectives import StoreBarrier
waiting.EVERY = 0.3
dist.init_process_group("gloo")
rank, barrier = dist.get_rank(), StoreBarrier()
if rank == 0:
    time.sleep(2)  # it works while the others wait
barrier.wait()
if rank == 0:
    barrier.fail(OSError("no space left"))
else:
    try:
        barrier.wait()
    except RuntimeError as error:
        print(error)
dist.monitored_barrier()
dist.destroy_process_group()
"""


def test_the_first_rank_that_waits_says_for_whom_and_a_failure_of_another_reaches_it(free_port: int) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", BARRIER],
            env={"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (quiet, first_errors), (told, lines) = (rank.communicate(timeout=120) for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], first_errors + lines
    assert re.search(r"Rank 1 has waited \d+ s for all ranks to reach the same point: 1 of 2 have", lines)
    assert "has waited" not in first_errors
    assert (quiet, told) == ("", "rank 0 failed while the others waited for it: OSError: no space left\n")
