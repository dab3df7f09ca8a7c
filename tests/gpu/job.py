"""The script of the jobs: makes one check after the other on a device, and writes down what it saw.

job.py FOLDER DEVICE GROUP CHECKS

FOLDER/RANK.jsonl gets `[check, {"seen": ...}]` or `[check, {"error": ...}]` for each of CHECKS, which commas part; the
words of a check are a function of `MAKERS` and its arguments. DEVICE is what CUDA_VISIBLE_DEVICES shall be here, or
"cpu": a simulated job that has fewer GPUs than ranks hides them all. GROUP is "lightning", or the backend over which
this script makes the process group that all checks train with: NCCL refuses two ranks on one GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

FOLDER, DEVICE, GROUP, CHECKS = sys.argv[1:]
IS_GPU = DEVICE != "cpu"
ACCELERATOR = "gpu" if IS_GPU else "cpu"
os.environ["CUDA_VISIBLE_DEVICES"] = DEVICE if IS_GPU else ""  # before torch sees it

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from lightning.fabric import Fabric  # noqa: E402
from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from lightning_sagemaker import SMDDPFSDPStrategy, SMDDPStrategy, latest_checkpoint  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 4  # of an epoch, of which a training has two
METRICS = 20
STEADY = (
    3  # steps before which memory does not count: in the second one, DDP makes its buckets anew beside the old ones
)


class StockDDP(DDPStrategy):
    """DDP that waits for each logged metric, as without this package: a strategy with a `reduce` of its own."""

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        return super().reduce(tensor, group, reduce_op)


STRATEGIES: dict[str, Callable[[], Any]] = {
    "stock": StockDDP,
    "fsdp_sharded": lambda: FSDPStrategy(state_dict_type="sharded"),
    "smddp_fsdp_sharded": lambda: SMDDPFSDPStrategy(state_dict_type="sharded"),
    "fsdp2": lambda: ModelParallelStrategy(save_distributed_checkpoint=False),
    "fsdp2_sharded": ModelParallelStrategy,
    "smddp_bucket_views": lambda: SMDDPStrategy(gradient_as_bucket_view=True),
}


def make_trainer(strategy: str, **options: Any) -> Any:
    given: dict[str, Any] = {"enable_checkpointing": False, "max_epochs": 1, "log_every_n_steps": 1, "logger": False}
    given |= {"enable_progress_bar": False, "enable_model_summary": False, **options}
    return Trainer(accelerator=ACCELERATOR, strategy=STRATEGIES.get(strategy, lambda: strategy)(), **given)


class Trained(LightningModule):
    """A network that logs what scripts log, and asks the strategy for what scripts ask."""

    def __init__(self, *, batchnorm: bool) -> None:
        super().__init__()
        self.net: Any = None
        self.batchnorm = batchnorm
        self.losses: list[Tensor] = []
        self.first_step = -1
        self.read: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}

    def configure_model(self) -> None:
        if self.net is not None:
            return
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(64) if self.batchnorm else nn.LayerNorm(64)
        self.net = nn.Sequential(nn.Linear(16, 64), norm, nn.ReLU(), nn.Linear(64, 1))
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            from torch.distributed.fsdp import fully_shard  # noqa: PLC0415 - torch 2.6

            mesh: Any = self.device_mesh
            fully_shard(self.net, mesh=mesh["data_parallel"])

    def on_train_start(self) -> None:
        self.first_step, strategy, rank = self.global_step, self.trainer.strategy, self.global_rank
        mine = torch.tensor([float(rank + 1)], device=self.device, requires_grad=True)
        gathered: Any = self.all_gather(mine, sync_grads=True)
        (gathered.flatten() * torch.arange(1, gathered.numel() + 1, device=self.device)).sum().backward()
        self.asked = {
            "broadcast": strategy.broadcast({"rank": rank, "words": ["of", rank]}, src=self.trainer.world_size - 1),
            "all": strategy.reduce_boolean_decision(rank == 0, all=True),
            "any": strategy.reduce_boolean_decision(rank == 0, all=False),
            "gathered": gathered.flatten().tolist(),
            "gradient": mine.grad.tolist() if mine.grad is not None else None,
            "device": str(gathered.device.type),
        }

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.losses.append(loss.detach())
        for kind in ("mean", "sum", "min", "max"):
            self.log(f"step {kind}", loss + self.global_rank, sync_dist=True, reduce_fx=kind)
        self.log("double", loss.double(), sync_dist=True)
        self.log("integer", torch.tensor(index, device=self.device), sync_dist=True, reduce_fx="sum", on_epoch=True)
        self.log("number", float(index), sync_dist=True)
        self.log("mean of the epoch", loss, sync_dist=True, on_step=False, on_epoch=True)
        if self.global_rank == 0:  # one rank alone may read, and at once
            self.read[str(index)] = float(self.trainer.callback_metrics["step sum"])
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def train(strategy: str, precision: str = "32-true", sync_batchnorm: str = "") -> dict[str, Any]:
    """An epoch, a checkpoint, and an epoch from there in a new Trainer; the losses depend on all weights."""
    folder = Path(FOLDER, "checkpoints", strategy, precision, sync_batchnorm or "plain")
    data = torch.randn(4 * STEPS * int(os.environ["WORLD_SIZE"]), 16, generator=torch.Generator().manual_seed(0))
    losses: list[float] = []
    for epochs in (1, 2):
        model = Trained(batchnorm=bool(sync_batchnorm))
        keep = ModelCheckpoint(folder, filename="of {epoch}", save_top_k=-1)
        options = {"callbacks": [keep], "enable_checkpointing": True, "sync_batchnorm": bool(sync_batchnorm)}
        trainer = make_trainer(strategy, max_epochs=epochs, precision=precision, **options)
        loader = DataLoader(TensorDataset(data, data.sum(1, keepdim=True)), 4)
        trainer.fit(model, loader, ckpt_path=latest_checkpoint(folder) if epochs == 2 else None)
        losses += torch.stack(model.losses).tolist()
    return {
        "strategy": type(trainer.strategy).__name__,
        "backend": dist.get_backend(),
        "device": trainer.strategy.root_device.type,
        "losses": losses,
        "continued at": model.first_step,
        "sharded": (latest_checkpoint(folder) or folder).is_dir(),
        "logged": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "read": model.read,
        "asked": model.asked,
    }


def train_with_fabric(strategy: str) -> dict[str, Any]:
    """An epoch by hand; and what Fabric's own collectives make of tensors and objects."""
    fabric = Fabric(accelerator=ACCELERATOR, strategy=strategy)
    fabric.launch()
    torch.manual_seed(0)
    model: Any = fabric.setup(nn.Linear(16, 1))
    optimizer: Any = fabric.setup_optimizers(torch.optim.Adam(model.parameters(), lr=1e-2))
    losses, rank = [], fabric.global_rank
    for step in range(STEPS):
        batch = torch.randn(4, 16, generator=torch.Generator().manual_seed(step + STEPS * rank)).to(fabric.device)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
        fabric.backward(loss)
        optimizer.step()
        losses.append(loss.detach())
    ranks = torch.tensor([float(rank)], device=fabric.device)
    return {
        "strategy": type(fabric.strategy).__name__,
        "backend": dist.get_backend(),
        "device": fabric.device.type,
        "losses": torch.stack(losses).tolist(),
        "means": [float(fabric.all_reduce(loss, reduce_op="mean")) for loss in losses],  # type: ignore[arg-type]
        "gathered": torch.as_tensor(fabric.all_gather(ranks)).flatten().tolist(),
        "broadcast": fabric.broadcast({"rank": rank}, src=fabric.world_size - 1),
    }


class Large(LightningModule):
    """Much memory for parameters, little for anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(8)))
        self.before = torch.cuda.memory_allocated()
        self.peak = 0

    def on_train_batch_start(self, _: Any, index: int) -> None:
        if index == STEADY:
            torch.cuda.reset_peak_memory_stats()

    def on_train_end(self) -> None:
        self.peak = torch.cuda.max_memory_allocated() - self.before

    def training_step(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.net(batch).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def measure_memory(strategy: str) -> dict[str, int]:
    """Bytes of the parameters, and the most that was allocated in a step."""
    model, batches = Large(), [torch.randn(1, 4096) for _ in range(2 * STEADY)]
    make_trainer(strategy).fit(model, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {"parameters": size, "peak": model.peak}


class Logging(LightningModule):
    """Logs twenty metrics in every second step, and nothing in the others; knows when each began."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 1)
        self.began: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        if IS_GPU:
            torch.cuda.synchronize()
        self.began.append(time.perf_counter())

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss: Tensor = self.net(batch).square().mean()
        for number in range(METRICS if index % 2 else 0):
            self.log(f"metric {number}", loss.detach(), sync_dist=True)
        return loss

    def seconds(self) -> tuple[float, float]:
        """Of a step that logs nothing, and of one that does; the first fifth of the steps is warm-up."""
        each = [end - begin for begin, end in pairwise(self.began)]
        steady = each[len(each) // 10 * 2 :]
        return median(steady[::2]), median(steady[1::2])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def measure_logging(launches: str, steps: str) -> dict[str, list[float]]:
    """Seconds that one metric costs, by strategy, in fits that take turns (A B C C B A)."""
    strategies = ("stock", "ddp", "smddp")
    found: dict[str, list[float]] = {strategy: [] for strategy in strategies}
    for launch in range(int(launches)):
        for strategy in strategies if launch % 2 else strategies[::-1]:
            model, batches = Logging(), [torch.randn(4, 8) for _ in range(2 * int(steps) + 1)]
            make_trainer(strategy).fit(model, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
            silent, logged = model.seconds()
            found[strategy].append((logged - silent) / METRICS)
    return found


def construct(strategy: str) -> str:
    """A Trainer whose world may not fit the devices."""
    return type(make_trainer(strategy).strategy).__name__


def describe() -> dict[str, str]:
    """The machine."""
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if IS_GPU else "none"
    return {"device": torch.cuda.get_device_name() if IS_GPU else "cpu", "torch": torch.__version__, "NCCL": nccl}


MAKERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (train, train_with_fabric, measure_memory, measure_logging, construct, describe)
}


def main() -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if GROUP != "lightning":
        dist.init_process_group(GROUP, rank=rank, world_size=size)
    with Path(FOLDER, f"{rank}.jsonl").open("w", encoding="utf-8", buffering=1) as file:
        for check in CHECKS.split(","):
            name, *arguments = check.split()
            try:
                outcome = {"seen": MAKERS[name](*arguments)}
            except Exception:  # noqa: BLE001 - what came of the check; the next ones are made all the same
                outcome = {"error": traceback.format_exc()}
            file.write(json.dumps([check, outcome]) + "\n")
            if GROUP == "lightning" and dist.is_initialized():
                dist.destroy_process_group()


if __name__ == "__main__":
    os.chdir(tempfile.gettempdir())
    main()
