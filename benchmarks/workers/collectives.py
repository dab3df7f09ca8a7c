"""Collectives of one backend over all sizes, each checked: algbw and busbw as nccl-tests defines them.

nccl-tests, doc/PERFORMANCE.md: algbw is size / time; busbw is algbw times 2 (n - 1) / n for all_reduce,
(n - 1) / n for all_gather and reduce_scatter, 1 for broadcast. The size is that of the whole buffer: what all_gather
puts out and what reduce_scatter takes in.
"""

import atexit
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.samples import Numbers
from benchmarks.steps import after_warm_up
from benchmarks.workers.clock import Clock
from lightning_sagemaker import SageMakerEnvironment
from lightning_sagemaker.smddp.availability import availability

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast")
BUDGET = 2**28  # bytes that one size moves at most, and with it the number of repetitions
FEWEST, MOST = 5, 50  # repetitions
DTYPE = torch.float32


def sizes(largest: int) -> list[int]:
    """Bytes, from 1 KiB on, each 16 times the one before."""
    return [2**power for power in range(10, largest.bit_length(), 4)]


def in_words(size: int) -> str:
    """Such as 64 KiB."""
    power = (size.bit_length() - 1) // 10
    return f"{size >> 10 * power} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def repetitions(size: int) -> int:
    """More for small sizes."""
    return min(MOST, max(FEWEST, BUDGET // size))


def prepared(name: str, count: int, device: torch.device) -> tuple[Callable[[], object], Tensor, Tensor]:
    """One operation on `count` numbers (sums; from rank 0): the call, the tensor that it fills, what must be in it."""
    rank, size = dist.get_rank(), dist.get_world_size()
    part = count // size

    def pattern(length: int, rank: int) -> Tensor:
        # Small integers: their sums are exact. Different for each rank and place, so that a mix-up shows.
        return (torch.arange(length, device=device) % 7 + rank).to(DTYPE)

    if name == "all_reduce":
        buffer = pattern(count, rank)
        return lambda: dist.all_reduce(buffer), buffer, pattern(count, 0) * size + sum(range(size))
    if name == "all_gather":
        buffer, mine = torch.empty(part * size, device=device), pattern(part, rank)
        parts, expected = list(buffer.split(part)), torch.cat([pattern(part, other) for other in range(size)])
        return lambda: dist.all_gather(parts, mine), buffer, expected
    if name == "reduce_scatter":
        buffer, given = torch.empty(part, device=device), [pattern(part, rank + place) for place in range(size)]
        return lambda: dist.reduce_scatter(buffer, given), buffer, pattern(part, rank) * size + sum(range(size))
    buffer = pattern(count, rank)
    return lambda: dist.broadcast(buffer, 0), buffer, pattern(count, 0)


def measured(largest: int, device: torch.device) -> Iterator[tuple[str, list[float], Numbers]]:
    """Every operation that the backend has, at every size; RuntimeError where a result is wrong."""
    clock, share = Clock(), (dist.get_world_size() - 1) / dist.get_world_size()
    for name in OPERATIONS:
        for size in sizes(largest):
            call, filled, expected = prepared(name, size // DTYPE.itemsize, device)
            try:
                call()
            except RuntimeError as error:
                if "does not support" not in str(error):
                    raise
                print(f"collectives: {name} is left out: {error}")
                break
            if not torch.equal(filled, expected):
                wrong = int((filled != expected).sum())
                raise RuntimeError(f"{name} of {in_words(size)} on rank {dist.get_rank()}: {wrong} values are wrong")
            filled.zero_()  # sums would grow from call to call
            for _ in range(repetitions(size)):
                clock.mark()
                call()
            clock.mark()
            factor = {"all_reduce": 2 * share, "broadcast": 1.0}.get(name, share)
            yield f"{name}, {in_words(size)}", clock.seconds(), {"bytes": float(size), "factor": factor}


def measure(settings: Mapping[str, Any]) -> list[tuple[str, list[float], Numbers]]:
    """All of the backend."""
    environment, backend = SageMakerEnvironment(), settings["backend"]
    if backend == "smddp" and (problem := availability().problem):
        raise RuntimeError(f"no SMDDP here: {problem}. HINT: leave this arm out.")
    device = torch.device("cuda", environment.local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    ranks = {"rank": environment.job.rank, "world_size": settings["world_size"], "timeout": timedelta(minutes=5)}
    address = f"tcp://{environment.main_address}:{environment.main_port}"
    dist.init_process_group(backend, None if environment.job.launcher == "torchrun" else address, **ranks)
    atexit.register(_end)  # the group's store carries the results
    return list(measured(settings["largest"], device))


def _end() -> None:
    if not hasattr(sys, "last_value"):  # after an exception the others may be within a collective
        dist.destroy_process_group()


def combine(_: Mapping[str, Any], steps: Sequence[Sequence[float]], numbers: Sequence[Numbers]) -> Numbers:
    """Bandwidths from the median of the slowest rank; not compared, as they are the step times in other words."""
    speed = numbers[0]["bytes"] / float(median(after_warm_up(steps))) / 1e9
    return {"algbw, GB/s": speed, "busbw, GB/s": speed * numbers[0]["factor"]}
