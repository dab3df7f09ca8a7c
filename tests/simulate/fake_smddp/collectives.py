"""Every allowed collective on tensors of many kinds: over smddp, over gloo after it, and over smddp again."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401 - registers the backend
import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
SHAPES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "vector": lambda values: values,
    "0-dim": lambda values: values[3],
    "empty": lambda values: values[:0],
    "non-contiguous": lambda values: values.view(4, 3).t(),
}


def all_reduce(tensor: torch.Tensor) -> object:
    dist.all_reduce(tensor)
    return tensor.tolist()


def all_reduce_async(tensor: torch.Tensor) -> object:
    work = dist.all_reduce(tensor, op=dist.ReduceOp.SUM, async_op=True)
    assert work is not None
    work.wait()
    return [work.is_completed(), tensor.tolist()]


def broadcast(tensor: torch.Tensor) -> object:
    dist.broadcast(tensor, src=dist.get_world_size() - 1)
    return tensor.tolist()


def reduce(tensor: torch.Tensor) -> object:
    dist.reduce(tensor, dst=1)
    return tensor.tolist() if dist.get_rank() == 1 else None  # elsewhere it is undefined


def all_gather(tensor: torch.Tensor) -> object:
    gathered = [torch.zeros_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor)
    return [part.tolist() for part in gathered]


def barrier(_: torch.Tensor) -> object:
    dist.barrier()
    return None


def objects(_: torch.Tensor) -> object:
    received: list[object] = [{"from": dist.get_rank()}, dist.get_rank()]
    dist.broadcast_object_list(received, src=1)
    gathered: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, "x" * dist.get_rank())
    return [received, gathered]


CASES = (all_reduce, all_reduce_async, broadcast, reduce, all_gather, barrier, objects)


def run(backend: str) -> dict[str, object]:
    rank = int(sys.argv[2])
    # A rank that is ahead would else find the store of the group before.
    os.environ["MASTER_PORT"] = ports.pop()
    if backend == "gloo":
        dist.init_process_group(backend, rank=rank, world_size=int(sys.argv[3]))
    else:
        dist.init_process_group(backend, timeout=timedelta(seconds=60))
    results: dict[str, object] = {}
    for dtype in DTYPES:
        for shape, shaped in SHAPES.items():
            for case in CASES:
                values = (torch.arange(12) * (rank + 1) % 5).to(getattr(torch, dtype))
                try:
                    results[f"{case.__name__} {dtype} {shape}"] = case(shaped(values))
                except Exception as error:  # noqa: BLE001 - then gloo must say the same
                    results[f"{case.__name__} {dtype} {shape}"] = repr(error)
    dist.destroy_process_group()
    return results


ports = os.environ["PORTS"].split()
names = ("smddp", "gloo", "again")
Path(sys.argv[1], f"{sys.argv[2]}.json").write_text(
    json.dumps({name: run("gloo" if name == "gloo" else "smddp") for name in names}), encoding="utf-8"
)
