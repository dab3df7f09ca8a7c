"""Trains with Trainer and Fabric of both distributions, one after the other, in the process group of one job.

Run by test_launch_modes.py in every launch mode; it holds no word about SageMaker, hosts, devices or ranks. Each rank
writes what it saw to OUT/RANK.json. The same file gives the reference: the same training in one process.
"""

import argparse
import importlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

SAMPLES, PER_RANK, EPOCHS = 48, 3, 2
ROUTES = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64)
    return TensorDataset(x, x.sum(1, keepdim=True).sin())


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def weights(model: nn.Module) -> list[float]:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()


def reference(world_size: int, epochs: int, *, shuffled: bool) -> list[float]:
    """Weights after the same global batches in one process, without Lightning.

    A DistributedSampler deals the samples out one by one, so a global batch is the next PER_RANK * world_size of them,
    in the order of the epoch's permutation where it shuffles.
    """
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(SAMPLES, generator=generator).tolist() if shuffled else range(SAMPLES)
        for x, y in DataLoader(data(), batch_size=PER_RANK * world_size, sampler=order):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    return weights(model)


def by_trainer(package: str) -> dict[str, Any]:
    pl = importlib.import_module(package)

    class Module(pl.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def step(self, batch: list[Tensor], name: str) -> Tensor:
            loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
            self.log(name, loss, sync_dist=True)
            return loss

        def training_step(self, batch: list[Tensor]) -> Tensor:
            return self.step(batch, "train")

        def validation_step(self, batch: list[Tensor]) -> None:
            self.step(batch, "val")

        def test_step(self, batch: list[Tensor]) -> None:
            self.step(batch, "test")

        def predict_step(self, batch: list[Tensor]) -> Tensor:
            return self.model(batch[0])  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    loader = DataLoader(data(), batch_size=PER_RANK)
    trainer, module = pl.Trainer(max_epochs=EPOCHS, **quiet), Module()
    trainer.fit(module, loader)
    after_fit, sampler = weights(module), trainer.train_dataloader.sampler
    validated = trainer.validate(module, loader, verbose=False)[0]["val"]
    tested = trainer.test(module, loader, verbose=False)[0]["test"]
    predicted = sum(len(batch) for batch in trainer.predict(module, loader))
    second, module = pl.Trainer(max_epochs=1, **quiet), Module()
    second.fit(module, loader)
    trained = weights(module)

    def on_one_device() -> dict[str, Any]:
        """As Lightning's own warning recommends, after a fit on many devices."""
        one = pl.Trainer(devices=1, num_nodes=1, **quiet)
        return {
            "world_size": one.world_size,
            "validated": one.validate(module, loader, verbose=False)[0]["val"],
            "tested": one.test(module, loader, verbose=False)[0]["test"],
            "predicted": sum(len(batch) for batch in one.predict(module, loader)),
        }

    on_rank_zero = on_one_device() if trainer.is_global_zero else None  # the others wait
    trainer.strategy.barrier()
    on_each_rank = on_one_device()
    trainer.strategy.barrier()
    return {
        **seen(trainer, trainer.strategy),
        "replicas": getattr(sampler, "num_replicas", 1),
        "sampler_rank": getattr(sampler, "rank", 0),
        "weights": after_fit,
        "validated": validated,
        "tested": tested,
        "predicted": predicted,
        "second_fit": trained,
        "on_rank_zero": on_rank_zero,
        "on_each_rank": on_each_rank,
        "expected": nn.functional.mse_loss(module.model(data().tensors[0]), data().tensors[1]).item(),
    }


def by_fabric(package: str) -> dict[str, Any]:
    fabric = importlib.import_module(package).Fabric(accelerator="cpu")
    fabric.launch()
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    loader = fabric.setup_dataloaders(DataLoader(data(), batch_size=PER_RANK))
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            fabric.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
    return {
        **seen(fabric, fabric.strategy),
        "replicas": getattr(loader.sampler, "num_replicas", 1),
        "sampler_rank": getattr(loader.sampler, "rank", 0),
        "weights": weights(model),
    }


def seen(owner: Any, strategy: Any) -> dict[str, Any]:
    environment = getattr(strategy, "cluster_environment", None)
    return {
        "strategy": type(strategy).__name__,
        "environment": type(environment).__name__,
        "main": f"{environment.main_address}:{environment.main_port}" if environment else None,
        "world_size": owner.world_size,
        "rank": owner.global_rank,
        "local_rank": owner.local_rank,
        "node_rank": owner.node_rank,
        "num_nodes": getattr(strategy, "num_nodes", 1),
        "devices": len(getattr(strategy, "parallel_devices", [0])),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--routes", nargs="+", default=ROUTES, help="in the order in which they run")
    arguments = parser.parse_args()
    before, results = dict(os.environ), {}
    for package in arguments.routes:
        results[package] = (by_fabric if "fabric" in package else by_trainer)(package)
    changed = sorted(name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name))
    rank = results[arguments.routes[0]]["rank"]
    Path(arguments.out, f"{rank}.json").write_text(
        json.dumps({"results": results, "environment_changed": changed, "host": os.environ["SAGEMAKER_BASE_DIR"]})
    )


if __name__ == "__main__":
    main()
