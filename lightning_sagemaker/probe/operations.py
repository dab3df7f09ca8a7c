"""What is tried with a process group: each function raises where the library refuses, or where its result is wrong."""

from __future__ import annotations

import gc
import inspect
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from lightning_sagemaker.probe.agreement import Agreement
    from lightning_sagemaker.probe.trials import Task, Trial


class NotTriedError(Exception):
    """An operation means nothing here."""


@dataclass
class Attempt:
    """What operations work with.

    Attributes:
        task: What this process was given.
        trial: Its trial.
        agreement: The ranks' own store.
        device: Where the tensors are.
    """

    task: Task
    trial: Trial
    agreement: Agreement
    device: torch.device

    @property
    def timeout(self) -> timedelta:
        """Time limit of process groups."""
        return timedelta(seconds=self.task.limit)

    @property
    def total(self) -> float:
        """Sum of 1 to the number of ranks: what `ones` add up to."""
        return self.task.world_size * (self.task.world_size + 1) / 2

    def own(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor that differs from rank to rank: rank + 1."""
        return torch.full((4,), self.task.rank + 1, dtype=dtype, device=self.device)


def init(attempt: Attempt, name: str = "") -> str:
    """Make the process group of the trial."""
    task, backend = attempt.task, str(attempt.trial.backend)
    version = ""
    if backend == "smddp":
        from lightning_sagemaker.smddp.probe import probe

        found = probe()
        if found.problem:
            raise RuntimeError(found.problem)
        version = f"SMDDP {found.version}"
    options: dict[str, Any] = {"device_id": attempt.device} if attempt.trial.device_id else {}
    if "device_id" not in inspect.signature(dist.init_process_group).parameters and options:  # torch < 2.3
        if backend == "smddp":
            raise NotTriedError("this torch has no device_id")
        options = {}
    dist.init_process_group(
        backend,
        store=attempt.agreement.part(f"group/{task.trial}/{task.start}/{name}"),
        rank=task.rank,
        world_size=task.world_size,
        timeout=attempt.timeout,
        **options,
    )
    return version


def rendezvous(attempt: Attempt) -> None:
    """A gloo group as scripts make it: by MASTER_ADDR and MASTER_PORT."""
    task = attempt.task
    os.environ |= {"MASTER_ADDR": task.address, "MASTER_PORT": str(task.job_port)}
    dist.init_process_group("gloo", rank=task.rank, world_size=task.world_size, timeout=attempt.timeout)
    tensor = torch.tensor([float(task.rank + 1)])
    dist.all_reduce(tensor)
    _same(tensor, attempt.total)


def rendezvous_again(attempt: Attempt) -> None:
    """Another one at once: the server of the first closes before its clients, so that its side keeps TIME_WAIT."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # The agent's server outlives the group, and so do the addresses that gloo left in it (seen with torch 2.13).
        raise NotTriedError("the server is torchrun's, and stays")
    if dist.is_initialized():
        dist.barrier()
        if attempt.task.rank == 0:
            _destroy()
            attempt.agreement.tell("destroyed")
        else:
            attempt.agreement.wait("destroyed", attempt.task.limit)
            _destroy()
    rendezvous(attempt)


def _destroy() -> None:
    dist.destroy_process_group()
    gc.collect()  # the store's server ends with the last reference


def _same(tensor: torch.Tensor, expected: float) -> None:
    if not bool((tensor == expected).all()):
        raise ValueError(f"the result is {tensor.flatten()[0].item()}, expected {expected}")


def all_reduce_sum(attempt: Attempt, dtype: torch.dtype = torch.float32) -> None:
    """SUM, which gradients need."""
    tensor = attempt.own(dtype)
    dist.all_reduce(tensor)
    _same(tensor, attempt.total)


def all_reduce_sum_int64(attempt: Attempt) -> None:
    """SUM of integers, with which Lightning decides something together."""
    all_reduce_sum(attempt, torch.int64)


def all_reduce_avg(attempt: Attempt) -> None:
    """AVG, which ``self.log(sync_dist=True)`` asks for."""
    tensor = attempt.own()
    dist.all_reduce(tensor, op=dist.ReduceOp.AVG)
    _same(tensor, attempt.total / attempt.task.world_size)


def all_reduce_max(attempt: Attempt) -> None:
    """MAX."""
    tensor = attempt.own()
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    _same(tensor, attempt.task.world_size)


def broadcast(attempt: Attempt) -> None:
    """From rank 0."""
    tensor = attempt.own()
    dist.broadcast(tensor, src=0)
    _same(tensor, 1)


def all_gather(attempt: Attempt) -> None:
    """From all ranks, in their order."""
    tensors = [attempt.own() for _ in range(attempt.task.world_size)]
    dist.all_gather(tensors, attempt.own())
    for rank, tensor in enumerate(tensors):
        _same(tensor, rank + 1)


def all_gather_into_tensor(attempt: Attempt) -> None:
    """The form that FSDP uses."""
    whole = torch.empty(4 * attempt.task.world_size, device=attempt.device)
    dist.all_gather_into_tensor(whole, attempt.own())
    _same(whole[-1], attempt.task.world_size)


def reduce(attempt: Attempt) -> None:
    """SUM to rank 0."""
    tensor = attempt.own()
    dist.reduce(tensor, dst=0)
    if attempt.task.rank == 0:
        _same(tensor, attempt.total)


def barrier(_attempt: Attempt) -> None:
    """Without devices."""
    dist.barrier()


def barrier_device_ids(attempt: Attempt) -> None:
    """With a device, as on NCCL."""
    dist.barrier(device_ids=[attempt.device.index or 0])


def broadcast_object(attempt: Attempt) -> None:
    """An object by tensors on the device, as this package does it."""
    objects = ["from rank 0" if attempt.task.rank == 0 else None]
    dist.broadcast_object_list(objects, src=0, device=attempt.device)
    if objects != ["from rank 0"]:
        raise ValueError(f"the object is {objects[0]!r}")


def gather(attempt: Attempt) -> None:
    """To rank 0."""
    tensors = [attempt.own() for _ in range(attempt.task.world_size)] if attempt.task.rank == 0 else None
    dist.gather(attempt.own(), tensors, dst=0)


def scatter(attempt: Attempt) -> None:
    """From rank 0."""
    tensors = [attempt.own() for _ in range(attempt.task.world_size)] if attempt.task.rank == 0 else None
    dist.scatter(attempt.own(), tensors, src=0)


def all_to_all(attempt: Attempt) -> None:
    """One tensor to each rank."""
    size = attempt.task.world_size
    dist.all_to_all([attempt.own() for _ in range(size)], [attempt.own() for _ in range(size)])


def cpu_tensor(attempt: Attempt) -> None:
    """SUM of a tensor that is not on the device."""
    if attempt.device.type == "cpu":
        raise NotTriedError("there is no other device than the CPU")
    tensor = torch.tensor([float(attempt.task.rank + 1)])
    dist.all_reduce(tensor)
    _same(tensor, attempt.total)


def gloo_group_beside(attempt: Attempt) -> None:
    """A second group, on gloo: Lightning makes one for its ``prepare_data`` barrier."""
    group = dist.new_group(backend="gloo", timeout=attempt.timeout)
    dist.monitored_barrier(group)


def new_group(attempt: Attempt) -> None:
    """A second group of the same backend."""
    group = dist.new_group()
    tensor = attempt.own()
    dist.all_reduce(tensor, group=group)
    _same(tensor, attempt.total)


def second_init(attempt: Attempt) -> None:
    """A new group after the first was destroyed, as two Trainers in one script may need it."""
    _destroy()
    init(attempt, "second")
    all_reduce_sum(attempt)
