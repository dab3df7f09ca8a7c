"""How long waiters sleep on after the work is done: from its end to the last of eight processes.

All ways are measured in turn within each round, by the same nine processes, so that whatever else the machine does
meets all of them. Times are of CLOCK_MONOTONIC, which all processes share.

* filelock: every process takes ``FileLock(...)``, looks for the file, and makes it if there is none; twice, as the
  arm that the others are compared with and as the one that must not differ from it.
* ours: ``once_per_node``.
* xdist: the recipe of pytest-xdist's documentation, the same with the result as JSON in that file, read under the lock.
* fabric: ``Fabric.rank_zero_first(local=True)``, gloo. It makes a process group each time; that is before the work.
* accelerate: ``PartialState().local_main_process_first()``, gloo; where it is installed.

A launch is nine fresh processes; each of its numbers is a quantile over its rounds. The end of the work is taken just
before its result is handed over, so for ours writing the outcome counts too. One of the nine processes works, eight
wait. With a group the one is rank 0; without, whoever comes first, and the others come 40 ms later.
"""

import contextlib
import json
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import filelock
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.samples import Measured
from lightning_sagemaker.locking import once_per_node

ARMS = ("filelock", "filelock again", "ours", "xdist", "fabric", *(["accelerate"] if find_spec("accelerate") else []))
OF_GROUPS = ("fabric", "accelerate")
HEAD_START = 0.04


def ways(rank: int, size: int, folder: Path, work: Callable[[], str]) -> dict[str, Callable[[int], object]]:
    """What each arm does in a round; it returns when the result is there."""
    from lightning.fabric import Fabric  # noqa: PLC0415 - slow

    def locked(name: str, number: int) -> None:
        made = folder / f"{name}-{number}"
        with filelock.FileLock(f"{made}.lock"):
            if not made.exists():
                made.write_text(json.dumps(work()), encoding="utf-8")
            elif name == "xdist":
                json.loads(made.read_text(encoding="utf-8"))

    def rank_zero_first(guard: Callable[[], contextlib.AbstractContextManager[object]], _: int) -> None:
        with guard():
            if rank == 0:
                work()

    with contextlib.redirect_stderr(None):
        fabric = Fabric(accelerator="cpu", devices=size, strategy="ddp")
        fabric.launch()
    found: dict[str, Callable[[int], object]] = {
        **{name: partial(locked, name) for name in ("filelock", "filelock again", "xdist")},
        "ours": lambda number: once_per_node(work, key=f"round {number}", timeout=60),
        "fabric": partial(rank_zero_first, partial(fabric.rank_zero_first, local=True)),
    }
    if "accelerate" in ARMS:
        from accelerate import PartialState  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415

        found["accelerate"] = partial(rank_zero_first, PartialState(cpu=True).local_main_process_first)
    return found


def go_through(rank: int, size: int, rounds: int, seconds: float, folder: str) -> None:
    """Meet the other processes, go through the ways, and write down when each was done and had returned."""
    logging.disable(logging.WARNING)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "LIGHTNING_SAGEMAKER_RUN_ID": Path(folder).name}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    found: list[tuple[str, int, float | None, float]] = []
    done_at: list[float] = []  # in this round, where this process works

    def work() -> str:
        time.sleep(seconds)
        done_at.append(time.monotonic())
        return "result"

    arms = ways(rank, size, Path(folder), work)
    order = random.Random(1)  # noqa: S311 - the same in all processes
    for number in range(-1, rounds):  # the first round is not counted
        for name in order.sample(ARMS, len(ARMS)):
            dist.barrier()
            if rank and name not in OF_GROUPS:
                time.sleep(HEAD_START)
            arms[name](number)
            found.append((name, number, done_at.pop() if done_at else None, time.monotonic()))
    Path(folder, f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def launch(size: int, rounds: int, work: float) -> dict[str, list[float]]:
    """For each way and round of one launch, seconds from the end of the work to the last waiter's return."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        spawn(go_through, (size, rounds, work, folder), nprocs=size)
        ranks = [json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]
    delays: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seen in zip(*ranks, strict=True):
        name, number, *_ = seen[0]
        (done_at,) = (done for *_, done, _ in seen if done is not None)
        if number >= 0:
            delays[name].append(max(returned for *_, returned in seen) - done_at)
    return delays


def measure(launches: int = 6, rounds: int = 10, waiters: int = 8, work: float = 0.2) -> Iterator[Measured]:
    """Let processes wait for each other.

    Args:
        launches: Of all processes.
        rounds: In each launch.
        waiters: Processes besides the one that works.
        work: Seconds that it takes.
    """
    settings = {"rounds": rounds, "waiters": waiters, "work": work}
    for index in range(launches):
        for arm, delays in launch(waiters + 1, rounds, work).items():
            numbers = {
                "last_waiter_p50_seconds": statistics.median(delays),
                "last_waiter_p95_seconds": statistics.quantiles(delays, n=20, method="inclusive")[-1],
            }
            yield Measured(f"{waiters} waiters", arm, index, numbers, settings)
