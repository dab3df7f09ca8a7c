"""Asks for everything that SMDDP does not do, and writes down the answers."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401 - registers the backend
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ["SMDATAPARALLEL_OPTIMIZE_SDP"] = "true"  # too late: the import has read it

rank = int(os.environ["RANK"])
answers: dict[str, str] = {}


def ask(name: str, question: Callable[[], object]) -> None:
    try:
        question()
    except Exception as error:  # noqa: BLE001 - the answer
        answers[name] = f"{type(error).__name__}: {error}"
    else:
        answers[name] = "done"


dist.init_process_group("smddp")
size = dist.get_world_size()
one, many = torch.ones(2), torch.ones(2 * size)
parts = list(many.chunk(size))

for op in ("SUM", "AVG", "MIN", "MAX", "PRODUCT", "BAND", "BOR", "BXOR"):
    ask(f"all_reduce {op}", lambda op=op: dist.all_reduce(one.clone().long(), op=getattr(dist.ReduceOp, op)))  # type: ignore[misc]
ask("reduce MAX", lambda: dist.reduce(one.clone(), dst=0, op=dist.ReduceOp.MAX))
ask("sparse", lambda: dist.all_reduce(torch.eye(2).to_sparse()))
ask("meta", lambda: dist.all_reduce(one.to("meta")))
ask("barrier", dist.barrier)
ask("barrier device_ids", lambda: dist.barrier(device_ids=[0]))

for backend in (None, "gloo", "smddp"):
    ask(f"new_group {backend}", lambda backend=backend: dist.new_group(backend=backend))  # type: ignore[misc]
ask("new_group of one", lambda: dist.new_group([0], backend="gloo", timeout=timedelta(days=10000)))
ask("new_subgroups", lambda: dist.new_subgroups(1))
ask("mesh of two dimensions", lambda: init_device_mesh("cpu", (size, 1), mesh_dim_names=("a", "b")))
ask("mesh of one dimension", lambda: init_device_mesh("cpu", (size,)))

ask("gather", lambda: dist.gather(one, parts if rank == 0 else None))
ask("scatter", lambda: dist.scatter(one.clone(), parts if rank == 0 else None))
ask("all_to_all", lambda: dist.all_to_all(list(many.clone().chunk(size)), parts))
ask("all_to_all_single", lambda: dist.all_to_all_single(many.clone(), many))
ask("send", lambda: dist.send(one, (rank + 1) % size))
ask("recv", lambda: dist.recv(one.clone(), (rank + 1) % size))
ask("recv from any", lambda: dist.recv(one.clone()))
ask("all_reduce_coalesced", lambda: dist.all_reduce_coalesced([one.clone(), one.clone()]))
ask("all_gather_coalesced", lambda: dist.all_gather_coalesced([parts], [one]))

ask("all_gather_into_tensor", lambda: dist.all_gather_into_tensor(many.clone(), one))
ask("reduce_scatter", lambda: dist.reduce_scatter(one.clone(), parts))
ask("reduce_scatter_tensor", lambda: dist.reduce_scatter_tensor(one.clone(), many))
ask("reduce_scatter_tensor AVG", lambda: dist.reduce_scatter_tensor(one.clone(), many, op=dist.ReduceOp.AVG))

group: Any = dist.group.WORLD
ask("device", lambda: group._get_backend(torch.device("cuda", 0)))
answers["name"] = f"{dist.get_backend()} {group.name()} {group.group_name} {group.group_desc}"
answers["defaults"] = str(dist.Backend.default_device_backend_map)
dist.destroy_process_group()
ask("after the end", lambda: group.allreduce([one]))
if "PORTS" in os.environ:  # torchrun's store keeps what the first group left in it: one group in each process
    first_port, os.environ["MASTER_PORT"], *_ = os.environ["PORTS"].split()
    dist.init_process_group("gloo")
    ask("gloo after the end", lambda: dist.new_group([0]))
    ask("smddp beside gloo", lambda: dist.new_group(backend="smddp"))
    dist.destroy_process_group()
    os.environ["MASTER_PORT"] = first_port
    ask(
        "second backend", lambda: dist.init_process_group("cpu:smddp,cuda:nccl")
    )  # last: fails after the ranks have met
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(answers), encoding="utf-8")
