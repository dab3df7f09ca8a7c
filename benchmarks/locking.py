"""Measures how long waiters sleep after the work is done: from its end to the last of eight processes.

Run by the Python that has torch and Lightning: ``python -m benchmarks.locking SAMPLES_FILE [--launches 6]
[--rounds 10] [--waiters 8] [--work 0.2]``. It measures accelerate too where that is installed. All ways are measured in
turn within each round, by the same nine processes, so that whatever else the machine does meets all of them. Times are
of CLOCK_MONOTONIC, which all processes share.

* ours: ``once_per_node``.
* filelock: every process takes ``FileLock(...)``, looks for the file, and makes it if there is none; twice, as the
  arm that the others are compared with and as the one that must not differ from it.
* xdist: the recipe of pytest-xdist's documentation, the same with the result as JSON in that file, read under the lock.
* accelerate: ``PartialState().local_main_process_first()``, gloo.
* fabric: ``Fabric.rank_zero_first(local=True)``, gloo. It makes a process group each time; that is before the work.

A launch is nine fresh processes; each of its numbers is a quantile over its rounds, of the time from the end of the
work to the return of the last waiter. The end of the work is taken just before its result is handed over, so for ours
writing the outcome counts too. One of the nine processes works, eight wait. With a group the one is rank 0; without,
whoever comes first, and the others come 40 ms later.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import torch
import torch.distributed as dist

from benchmarks.environment import gather
from benchmarks.samples import Launch, append
from lightning_sagemaker.locking import once_per_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.samples import Role

HEAD_START = 0.04


class Ways:
    """The ways, each a method that returns when the result is there; the worker notes when it was."""

    def __init__(self, rank: int, folder: Path, work: float) -> None:
        self.rank, self.folder, self.seconds = rank, folder, work
        self.done_at: float | None = None
        self.fabric: Any = None
        self.accelerate: Any = None

    def work(self) -> str:
        """Take the time that the work takes."""
        time.sleep(self.seconds)
        self.done_at = time.monotonic()
        return "result"

    def ours(self, number: int) -> None:
        """once_per_node."""
        once_per_node(self.work, key=f"round {number}", timeout=60)

    def plain(self, number: int, name: str = "plain") -> None:
        """FileLock, then look."""
        made = self.folder / f"{name}-{number}"
        with filelock.FileLock(f"{made}.lock"):
            if not made.exists():
                self.work()
                made.touch()

    def plain_again(self, number: int) -> None:
        """The same."""
        self.plain(number, "again")

    def xdist(self, number: int) -> None:
        """FileLock, then read or write."""
        made = self.folder / f"xdist-{number}"
        with filelock.FileLock(f"{made}.lock"):
            if made.is_file():
                json.loads(made.read_text(encoding="utf-8"))
            else:
                made.write_text(json.dumps(self.work()), encoding="utf-8")

    def accelerate_first(self, _: int) -> None:
        """local_main_process_first."""
        with self.accelerate.local_main_process_first():
            if self.rank == 0:
                self.work()

    def fabric_first(self, _: int) -> None:
        """rank_zero_first."""
        with self.fabric.rank_zero_first(local=True):
            if self.rank == 0:
                self.work()


def process(rank: int, arguments: argparse.Namespace, port: int, folder: Path, results: Any) -> None:  # noqa: ANN401
    """One of the processes: wait for the others, try each way, report."""
    logging.disable(logging.WARNING)
    size = arguments.waiters + 1
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "LIGHTNING_SAGEMAKER_RUN_ID": folder.name}
    torch.set_num_threads(1)
    ways = Ways(rank, folder, arguments.work)
    dist.init_process_group("gloo")
    table: dict[str, Callable[[int], None]] = {
        "ours": ways.ours,
        "filelock": ways.plain,
        "filelock again": ways.plain_again,
        "xdist": ways.xdist,
    }
    with contextlib.suppress(ImportError):
        from accelerate import PartialState  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415

        ways.accelerate = PartialState(cpu=True)
        table["accelerate"] = ways.accelerate_first
    from lightning.fabric import Fabric  # noqa: PLC0415 - slow; by now the others have started too

    with contextlib.redirect_stderr(None):
        ways.fabric = Fabric(accelerator="cpu", devices=size, strategy="ddp")
        ways.fabric.launch()
    table["fabric"] = ways.fabric_first
    order = random.Random(1)  # noqa: S311 - the same in all processes
    for number in range(-1, arguments.rounds):  # the first round is not counted
        for name in order.sample(sorted(table), len(table)):
            ways.done_at = None
            dist.barrier()
            if rank and name not in ("accelerate", "fabric"):
                time.sleep(HEAD_START)
            table[name](number)
            results.put((number, name, rank, ways.done_at, time.monotonic()))
    dist.barrier()
    dist.destroy_process_group()


def launch(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """One launch: for each way and round, seconds from the end of the work to the last waiter's return.

    Raises:
        RuntimeError: A process failed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        processes = [
            context.Process(target=process, args=(rank, arguments, port, Path(folder), results), daemon=True)
            for rank in range(arguments.waiters + 1)
        ]
        for each in processes:
            each.start()
        seen: dict[tuple[str, int], list[tuple[float | None, float]]] = {}
        while any(each.is_alive() for each in processes) or not results.empty():
            if any(each.exitcode for each in processes):
                break  # the others would wait for it at a barrier
            if results.empty():
                time.sleep(0.05)
                continue
            number, name, _, done_at, returned_at = results.get()
            seen.setdefault((name, number), []).append((done_at, returned_at))
        if codes := [each.exitcode for each in processes if each.exitcode]:
            for each in processes:
                each.kill()
                each.join()
            raise RuntimeError(f"{len(codes)} process(es) failed, the first with exit code {codes[0]}")
    delays: dict[str, list[float]] = {}
    for (name, number), ends in sorted(seen.items()):
        if number >= 0:
            (done_at,) = (done for done, _ in ends if done is not None)
            delays.setdefault(name, []).append(max(end for _, end in ends) - done_at)
    return delays


def main() -> None:
    """Measure all launches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--launches", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--waiters", type=int, default=8)
    parser.add_argument("--work", type=float, default=0.2, metavar="SECONDS")
    given = parser.parse_args()
    described = gather("none", stand_in=False)
    for index in range(given.launches):
        for name, delays in launch(given).items():
            settings = {"rounds": given.rounds, "waiters": given.waiters, "work": given.work}
            numbers = {
                "last_waiter_p50_seconds": statistics.median(delays),
                "last_waiter_p95_seconds": statistics.quantiles(delays, n=20, method="inclusive")[-1],
            }
            role: Role = {"filelock": "baseline", "filelock again": "again"}.get(name, "candidate")  # type: ignore[assignment]
            case = f"{given.waiters} waiters"
            append(given.samples, Launch("locking", case, name, role, index, settings, described, numbers=numbers))
        print(f"benchmark: locking, launch {index + 1} of {given.launches}", flush=True)


if __name__ == "__main__":
    main()
