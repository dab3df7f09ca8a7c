"""One process of a trial: makes a process group with those of the other ranks, and tries one operation after the other.

Before an operation begins it says so in a file, and then what came of it: whoever started this process knows where it
hung or died.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # missing in torch's own list

if TYPE_CHECKING:
    from collections.abc import Callable

INIT, WORKS = "init", "works"
# By AWS's API document of SMDDP.
DOCUMENTED = ("all_reduce_sum", "all_reduce_sum_int64", "broadcast", "all_gather", "barrier", "reduce")


@dataclass(frozen=True)
class Trial:
    """What is tried in one process of each rank."""

    backend: str
    operations: tuple[str, ...]  # after the group is made; the least dangerous first
    by_address: bool = False  # the group is made by MASTER_ADDR and MASTER_PORT, as scripts do
    device_id: bool = False  # and bound to its device, as Lightning does since 2.5.5
    destroys: bool = True  # at the end


TRIALS = {
    "gloo": Trial("gloo", ("all_reduce_sum",), by_address=True),
    "gloo_again": Trial("gloo", ("second_init",), by_address=True),  # hangs under torchrun
    "nccl": Trial(
        "nccl",
        ("all_reduce_sum", "all_reduce_avg", "broadcast", "all_gather", "barrier", "gloo_group_beside"),
        device_id=True,
    ),
    "smddp": Trial(
        "smddp",
        (
            *DOCUMENTED,
            *("broadcast_object", "all_reduce_avg", "all_reduce_max", "gather", "scatter", "all_to_all"),
            *("barrier_device_ids", "cpu_tensor", "gloo_group_beside", "new_group", "second_init"),
        ),
    ),
    "smddp_device_id": Trial("smddp", ("all_reduce_sum", "barrier"), device_id=True),
    "smddp_exit": Trial("smddp", ("all_reduce_sum",), destroys=False),
}


@dataclass(frozen=True)
class Task:
    """What one process is given."""

    trial: str
    attempt: int  # processes of the trial that came before: each stopped at an operation that hung or ended it
    operations: tuple[str, ...]  # that are left
    rank: int
    size: int  # ranks of the job
    local_rank: int
    address: str  # host of rank 0
    port: int  # of the ranks' own store there
    job_port: int  # of the job's rendezvous there
    limit: float  # seconds for an operation


class Process:
    """This process, as operations see it."""

    def __init__(self, task: Task) -> None:
        self.task, self.trial = task, TRIALS[task.trial]
        self.rank, self.size = task.rank, task.size
        self.timeout = timedelta(seconds=task.limit)
        self.total = self.size * (self.size + 1) / 2  # of what all ranks' `own` hold
        self.device = torch.device("cpu")
        if torch.cuda.is_available() and self.trial.backend != "gloo":
            self.device = torch.device("cuda", task.local_rank % torch.cuda.device_count())
            torch.cuda.set_device(self.device)
        store = TCPStore(task.address, task.port, is_master=False, timeout=self.timeout, wait_for_workers=False)
        self.store = PrefixStore(f"{task.trial}/{task.attempt}", store)

    def own(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor that differs from rank to rank: rank + 1."""
        return torch.full((4,), self.rank + 1, dtype=dtype, device=self.device)

    def copies(self) -> list[torch.Tensor]:
        """One for each rank, all this one's."""
        return [self.own() for _ in range(self.size)]

    def all_come(self, where: str) -> None:
        """Wait until all ranks are at one place; raises where they do not come."""
        self.store.set(f"{where}/{self.rank}", "")
        self.store.wait([f"{where}/{rank}" for rank in range(self.size)], 2 * self.timeout)  # an operation may hang


def main(task: Task, results: Path) -> None:
    """Try the operations; the file gets two lines for each, `[name, null]` and `[name, outcome]`."""
    process = Process(task)
    with results.open("w", encoding="utf-8", buffering=1) as file:
        for name in (INIT, *task.operations):
            process.all_come(name)
            file.write(json.dumps([name, None]) + "\n")
            outcome = _try(process, name)
            file.write(json.dumps([name, outcome]) + "\n")
            if name == INIT and outcome != WORKS:
                return  # nothing else can be tried
    if process.trial.destroys and dist.is_initialized():
        dist.destroy_process_group()


def _try(process: Process, name: str) -> str:
    try:
        OPERATIONS[name](process)
        if process.device.type == "cuda":
            torch.cuda.synchronize()  # NCCL's and SMDDP's errors may come with the result only
    except AssertionError as error:
        return f"is wrong: {error}"
    except Exception as error:  # noqa: BLE001 - the answer that was asked for
        return f"raises {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return WORKS


def init(process: Process, name: str = INIT) -> None:
    """Make the process group of the trial."""
    options: dict[str, Any] = {"store": PrefixStore(f"group/{name}", process.store)}
    if process.trial.by_address:
        os.environ |= {"MASTER_ADDR": process.task.address, "MASTER_PORT": str(process.task.job_port)}
        options = {}
    elif process.trial.backend == "smddp":
        from lightning_sagemaker.smddp.availability import availability  # noqa: PLC0415 - imports the library, which may hang

        if found := availability().problem:
            raise RuntimeError(found)
    if process.trial.device_id and "device_id" in inspect.signature(dist.init_process_group).parameters:  # torch 2.3
        options["device_id"] = process.device
    dist.init_process_group(
        process.trial.backend, rank=process.rank, world_size=process.size, timeout=process.timeout, **options
    )


def second_init(process: Process) -> None:
    """A new group after the first was destroyed, as two Trainers in one script may need it.

    Rank 0, which holds the server of a group that is made by address, closes first: its side keeps TIME_WAIT.
    """
    dist.barrier()
    if process.rank != 0:
        process.store.wait(["destroyed"], process.timeout)
    dist.destroy_process_group()
    gc.collect()  # the server ends with the last reference
    process.store.set("destroyed", "")
    init(process, "second")
    _all_reduce(process, process.total)


def _broadcast(process: Process) -> None:
    tensor = process.own()
    dist.broadcast(tensor, src=0)
    _holds(tensor, 1)


def _all_gather(process: Process) -> None:
    tensors = process.copies()
    dist.all_gather(tensors, process.own())
    for rank, tensor in enumerate(tensors):
        _holds(tensor, rank + 1)


def _reduce(process: Process) -> None:
    tensor = process.own()
    dist.reduce(tensor, dst=0)
    _holds(tensor, process.total if process.rank == 0 else None)


def _broadcast_object(process: Process) -> None:
    objects = ["from rank 0" if process.rank == 0 else None]
    dist.broadcast_object_list(objects, src=0, device=process.device)
    assert objects == ["from rank 0"], objects


def _all_reduce(process: Process, expected: float, tensor: torch.Tensor | None = None, **options: Any) -> None:
    tensor = process.own() if tensor is None else tensor
    dist.all_reduce(tensor, **options)
    _holds(tensor, expected)


def _holds(tensor: torch.Tensor, expected: float | None) -> None:
    assert expected is None or bool((tensor == expected).all()), f"{tensor.flatten()[0].item()}, expected {expected}"


OPERATIONS: dict[str, Callable[[Process], object]] = {
    INIT: init,
    "all_reduce_sum": lambda p: _all_reduce(p, p.total),
    "all_reduce_sum_int64": lambda p: _all_reduce(p, p.total, p.own(torch.int64)),  # Lightning decides so together
    "all_reduce_avg": lambda p: _all_reduce(p, p.total / p.size, op=dist.ReduceOp.AVG),  # self.log(sync_dist=True)
    "all_reduce_max": lambda p: _all_reduce(p, p.size, op=dist.ReduceOp.MAX),
    "cpu_tensor": lambda p: _all_reduce(p, p.total, p.own().cpu()),
    "broadcast": _broadcast,
    "broadcast_object": _broadcast_object,  # by tensors on the device, as this package does it
    "all_gather": _all_gather,
    "reduce": _reduce,
    "gather": lambda p: dist.gather(p.own(), p.copies() if p.rank == 0 else None, dst=0),
    "scatter": lambda p: dist.scatter(p.own(), p.copies() if p.rank == 0 else None, src=0),
    "all_to_all": lambda p: dist.all_to_all(p.copies(), p.copies()),
    "barrier": lambda _: dist.barrier(),
    "barrier_device_ids": lambda p: dist.barrier(device_ids=[p.device.index or 0]),  # as on NCCL
    # Lightning makes one for the barrier of its `prepare_data`.
    "gloo_group_beside": lambda p: dist.monitored_barrier(dist.new_group(backend="gloo", timeout=p.timeout)),
    "new_group": lambda p: _all_reduce(p, p.total, group=dist.new_group()),
    "second_init": second_init,
}


if __name__ == "__main__":
    main(Task(**json.loads(sys.argv[1])), Path(sys.argv[2]))
