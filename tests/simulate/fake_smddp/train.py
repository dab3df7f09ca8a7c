"""DDP in its variants, over smddp and then over gloo; writes the final weights of both."""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401 - registers the backend
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Iterator

rank = int(os.environ["RANK"])


class Net(nn.Module):
    """One head is used in every second step only; a buffer differs between ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)])

    def forward(self, values: torch.Tensor, head: int) -> torch.Tensor:
        return self.heads[head](self.trunk(values))  # type: ignore[no-any-return]


def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7 + rank)
    for _ in range(6):
        yield torch.randn(5, 6, generator=generator), torch.randn(5, 1, generator=generator)


def train(*, hook: str = "", zero: bool = False, accumulate: int = 1, heads: int = 2, **options: Any) -> list[float]:
    torch.manual_seed(rank)  # DDP has to broadcast rank 0's weights
    net = Net()
    if heads == 1:
        del net.heads[1]
    # PowerSGD's collectives come from gloo's threads: with several buckets it hangs over plain gloo too (torch 2.13).
    model = DistributedDataParallel(net, bucket_cap_mb=1 if hook == "PowerSGD" else 0.0001, **options)
    if hook == "fp16":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif hook == "PowerSGD":
        state = powerSGD_hook.PowerSGDState(process_group=None, start_powerSGD_iter=2)
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    optimizer: torch.optim.Optimizer
    if zero:
        optimizer = ZeroRedundancyOptimizer(net.parameters(), torch.optim.Adam, lr=0.01)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step, (values, target) in enumerate(batches()):
        last = (step + 1) % accumulate == 0
        with nullcontext() if last else model.no_sync():
            nn.functional.mse_loss(model(values, step % heads), target).backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()
    return [value for parameter in net.state_dict().values() for value in parameter.flatten().tolist()]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"heads": 1},
    "no_sync": {"heads": 1, "accumulate": 3},
    "find_unused_parameters": {"find_unused_parameters": True},
    "static_graph": {"heads": 1, "static_graph": True},
    "gradient_as_bucket_view": {"heads": 1, "gradient_as_bucket_view": True},
    "fp16 hook": {"heads": 1, "hook": "fp16"},
    "PowerSGD hook": {"heads": 1, "hook": "PowerSGD"},
    "ZeroRedundancyOptimizer": {"heads": 1, "zero": True},
}


def start(backend: str) -> None:
    os.environ["MASTER_PORT"] = ports.pop()
    dist.init_process_group(backend)


def run(backend: str) -> dict[str, list[float]]:
    start(backend)
    weights = {name: train(**options) for name, options in VARIANTS.items()}
    if backend == "gloo":
        # A model collected later takes gloo's group with it while it holds the GIL, which gloo's threads may wait for:
        # a deadlock of plain gloo (seen with torch 2.5.1).
        gc.collect()
        dist.destroy_process_group()
    else:
        kept.append(DistributedDataParallel(nn.Linear(2, 2)))
        before = gloo_threads()
        dist.destroy_process_group()
        threads.extend([before, gloo_threads()])
    return weights


def gloo_threads() -> int:
    return sum("gloo" in task.read_text(encoding="utf-8") for task in Path("/proc/self/task").glob("*/comm"))


ports = os.environ["PORTS"].split()
kept: list[nn.Module] = []
threads: list[int] = []
results: dict[str, Any] = {backend: run(backend) for backend in ("smddp", "gloo")}
results["threads"] = threads
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(results), encoding="utf-8")
start("smddp")
kept.append(DistributedDataParallel(nn.Linear(2, 2)))
dist.all_reduce(torch.ones(3), async_op=True)
# Ends here: nothing is destroyed, and a model holds the group.
