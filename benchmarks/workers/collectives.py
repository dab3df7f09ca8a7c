"""Collectives of one backend over all sizes, each checked: algbw and busbw as nccl-tests defines them.

nccl-tests, doc/PERFORMANCE.md: algbw is size / time; busbw is algbw times 2 (n - 1) / n for all_reduce,
(n - 1) / n for all_gather and reduce_scatter, 1 for broadcast. The size is that of the whole buffer: what all_gather
puts out and what reduce_scatter takes in.
"""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from benchmarks.steps import slowest_rank, warm_up_length
from benchmarks.workers import results
from benchmarks.workers.clock import Clock
from lightning_sagemaker import SageMakerEnvironment
from lightning_sagemaker.smddp.availability import availability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from benchmarks.samples import Numbers

SMALLEST = 1024  # bytes
FACTOR = 16  # between neighbouring sizes
BUDGET = 2**28  # bytes that one size moves at most, and with it the number of repetitions
FEWEST, MOST = 5, 50  # repetitions
DTYPE = torch.float32


def sizes(largest: int) -> Iterator[int]:
    """Bytes, from 1 KiB on."""
    size = SMALLEST
    while size <= largest:
        yield size
        size *= FACTOR


def in_words(size: int) -> str:
    """Such as 64 KiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - of binary units
            return f"{size} {unit}"
        size //= 1024
    return f"{size} GiB"


class Collectives:
    """Each operation runs on a buffer of a size, and knows what must be there afterwards."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank, self.world_size = device, dist.get_rank(), dist.get_world_size()

    def operations(self) -> dict[str, tuple[Callable[[int], tuple[Callable[[], object], Tensor, Tensor]], float]]:
        """By name: makes the call, the tensor that it fills, and the expected content; and the factor for busbw."""
        share = (self.world_size - 1) / self.world_size
        return {
            "all_reduce": (self.all_reduce, 2 * share),
            "all_gather": (self.all_gather, share),
            "reduce_scatter": (self.reduce_scatter, share),
            "broadcast": (self.broadcast, 1.0),
        }

    def _pattern(self, count: int, rank: int) -> Tensor:
        # Small integers: their sums are exact. Different for each rank and place, so that a mix-up shows.
        return (torch.arange(count, device=self.device) % 7 + rank).to(DTYPE)

    def all_reduce(self, count: int) -> tuple[Callable[[], object], Tensor, Tensor]:
        """SUM; the expected content is that of one call."""
        buffer = self._pattern(count, self.rank)
        expected = self._pattern(count, 0) * self.world_size + sum(range(self.world_size))
        return lambda: dist.all_reduce(buffer), buffer, expected

    def all_gather(self, count: int) -> tuple[Callable[[], object], Tensor, Tensor]:
        """Into parts of one tensor."""
        part = count // self.world_size
        mine, buffer = self._pattern(part, self.rank), torch.empty(part * self.world_size, device=self.device)
        parts = list(buffer.split(part))
        expected = torch.cat([self._pattern(part, rank) for rank in range(self.world_size)])
        return lambda: dist.all_gather(parts, mine), buffer, expected

    def reduce_scatter(self, count: int) -> tuple[Callable[[], object], Tensor, Tensor]:
        """SUM."""
        part = count // self.world_size
        mine = [self._pattern(part, self.rank + place) for place in range(self.world_size)]
        buffer = torch.empty(part, device=self.device)
        expected = self._pattern(part, self.rank) * self.world_size + sum(range(self.world_size))
        return lambda: dist.reduce_scatter(buffer, mine), buffer, expected

    def broadcast(self, count: int) -> tuple[Callable[[], object], Tensor, Tensor]:
        """From rank 0."""
        buffer = self._pattern(count, self.rank)
        return lambda: dist.broadcast(buffer, 0), buffer, self._pattern(count, 0)


def measure(collectives: Collectives, largest: int) -> Iterator[tuple[str, list[float], dict[str, float]]]:
    """Every operation that the backend has, at every size.

    Raises:
        RuntimeError: A result is wrong.
    """
    clock = Clock()
    for name, (make, factor) in collectives.operations().items():
        for size in sizes(largest):
            call, filled, expected = make(size // DTYPE.itemsize)
            try:
                call()
            except RuntimeError as error:
                if "does not support" not in str(error):
                    raise
                print(f"collectives: {name} is left out: {error}")
                break
            if not torch.equal(filled, expected):
                wrong = int((filled != expected).sum())
                raise RuntimeError(f"{name} of {in_words(size)} on rank {collectives.rank}: {wrong} values are wrong")
            filled.zero_()  # sums would grow from call to call
            for _ in range(repetitions(size)):
                clock.mark()
                call()
            clock.mark()
            yield f"{name}, {in_words(size)}", clock.seconds(), {"bytes": float(size), "factor": factor}


def repetitions(size: int) -> int:
    """More for small sizes."""
    return min(MOST, max(FEWEST, BUDGET // size))


def combine(steps: results.Steps, numbers: list[Numbers]) -> Numbers:
    """Bandwidths from the median of the slowest rank; not compared, as they are the step times in other words."""
    seconds = slowest_rank(steps)
    speed = numbers[0]["bytes"] / float(median(seconds[warm_up_length(seconds) :])) / 1e9
    return {"algbw, GB/s": speed, "busbw, GB/s": speed * numbers[0]["factor"]}


def main() -> None:
    """Measure, and write down a launch for each operation and size."""
    planned, path = results.arguments()
    environment, backend = SageMakerEnvironment(), planned.settings["backend"]
    rank, world_size = environment.job.rank, planned.settings["world_size"]
    if backend == "smddp" and (problem := availability().problem):
        raise RuntimeError(f"no SMDDP here: {problem}. HINT: leave this arm out.")
    device = torch.device("cuda", environment.local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    address = f"tcp://{environment.main_address}:{environment.main_port}"
    store = {} if environment.job.launcher == "torchrun" else {"init_method": address}
    dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=timedelta(minutes=5), **store)  # type: ignore[arg-type]
    results.write(planned, path, list(measure(Collectives(device), planned.settings["largest"])), combine)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
