"""Fabric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric, seed_everything
from torch import nn

from tests.beside_stock.model import data, loader, raised, weights, world
from tests.beside_stock.registry import situation


def _network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(8, 1)


def _train(fabric: Fabric) -> Any:
    model = _network()
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), 0.05))
    for x, y in fabric.setup_dataloaders(loader()):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=0.5)
        optimizer.step()
    return model, optimizer


def _fabric(**arguments: Any) -> Fabric:
    fabric = Fabric(**({"accelerator": "cpu"} | world() | arguments))
    fabric.launch()
    return fabric


def _seen(fabric: Fabric) -> Any:
    places = [fabric.world_size, fabric.global_rank, fabric.local_rank, fabric.node_rank, fabric.is_global_zero]
    return [*places, type(fabric.strategy).__name__]


def _saved_and_loaded() -> Any:
    fabric = _fabric()
    model, optimizer = _train(fabric)
    fabric.save("state/model.ckpt", {"model": model, "optimizer": optimizer, "step": 8})
    again = _network()
    again, second = fabric.setup(again, torch.optim.Adam(again.parameters(), 0.05))
    state = {"model": again, "optimizer": second, "step": 0}
    rest = fabric.load("state/model.ckpt", state)
    return {
        "weights": weights(model),
        "same": weights(again) == weights(model),
        "step": state["step"],
        "rest": sorted(rest),
        "missing": raised(lambda: fabric.load("state/none.ckpt")),
        "seen": _seen(fabric),
    }


@situation()
def fabric_in_one_process(_start: int) -> Any:
    return _saved_and_loaded()


@situation("two")
def fabric_on_two_processes(_start: int) -> Any:
    return _saved_and_loaded()


@situation("two")
def collectives_of_fabric(_start: int) -> Any:
    fabric = _fabric()
    rank = float(fabric.global_rank + 1)
    with fabric.rank_zero_first():
        Path("first").touch()
    fabric.barrier()
    return {
        "sum": float(fabric.all_reduce(torch.tensor(rank), reduce_op="sum")),  # type: ignore[arg-type]
        "mean": float(fabric.all_reduce(torch.tensor(rank))),  # type: ignore[arg-type]
        "gathered": torch.as_tensor(fabric.all_gather(torch.tensor([rank]))).tolist(),
        "broadcast": fabric.broadcast({"rank": rank}),
        "seed": seed_everything(fabric.global_rank, verbose=False),
        "seen": _seen(fabric),
    }


@situation("two")
def fabric_without_synchronization(_start: int) -> Any:
    fabric = _fabric(precision="bf16-mixed")
    model = _network()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), 0.05))
    for index, (x, y) in enumerate(fabric.setup_dataloaders(loader())):
        with fabric.no_backward_sync(model, enabled=index % 2 == 0):
            fabric.backward(nn.functional.mse_loss(model(x), y))
        if index % 2:
            optimizer.step()
            optimizer.zero_grad()
    return {"weights": weights(model), "rows": len(data())}
