"""Programs as Lightning's own examples show them for Fabric, in miniature: the loop is the script's."""

from __future__ import annotations

import copy
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.plugins.collectives import TorchCollective
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SubsetRandomSampler
from torchmetrics import MeanSquaredError

from tests.beside_stock.model import Model, data, loader, weights, world
from tests.beside_stock.registry import program


def _fabric(**arguments: Any) -> Fabric:
    fabric = Fabric(**({"accelerator": "cpu"} | world() | arguments))
    fabric.launch()
    return fabric


def _network(seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


@program("one", "two", "disks")
def image_classifier_loop(_start: int) -> Any:
    """Rank zero downloads first; a metric of torchmetrics over all ranks; the state is saved in the end."""
    fabric = _fabric()
    fabric.seed_everything(1)
    with fabric.rank_zero_first(local=False):
        Path("data").mkdir(exist_ok=True)
    train: Any
    test: Any
    train, test = fabric.setup_dataloaders(loader(shuffle=True), loader(16))
    network = _network()
    model, optimizer = fabric.setup(network, torch.optim.Adadelta(network.parameters(), 1.0))
    scheduler, metric = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7), MeanSquaredError().to(fabric.device)
    found = []
    for _ in range(2):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            fabric.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            for x, y in test:
                metric(model(x), y)
        found.append([float(metric.compute()), float(fabric.all_reduce(metric.total.clone().float()))])  # type: ignore[arg-type]
        metric.reset()
    fabric.save("classifier.pt", model.state_dict())
    return {"weights": weights(model), "found": found}


@program("two", "disks")
def reinforcement_learning(_start: int) -> Any:
    """PPO: each rank plays, what all have seen is gathered, and a sampler shares it out again."""
    logger = CSVLogger("logs", name="ppo")
    fabric = _fabric(loggers=logger)
    fabric.seed_everything(3)
    network = _network()
    agent, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), 0.01, eps=1e-4))
    for update in range(2):
        agent.eval()
        with torch.no_grad():
            states = torch.randn(6, 8, generator=torch.Generator().manual_seed(10 * update + fabric.global_rank))
            local = {"obs": states, "returns": states.sum(1), "values": agent(states).squeeze(1)}
        gathered: Any = fabric.all_gather(local)
        flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in gathered.items()}
        indexes = list(range(flat["obs"].shape[0]))
        options = {"num_replicas": fabric.world_size, "rank": fabric.global_rank, "shuffle": True, "seed": 5}
        sampler: Any = DistributedSampler(indexes, **options)  # type: ignore[arg-type]
        agent.train()
        for epoch in range(2):
            sampler.set_epoch(epoch)
            for rows in BatchSampler(sampler, batch_size=3, drop_last=False):
                loss = nn.functional.mse_loss(agent(flat["obs"][rows]).squeeze(1), flat["returns"][rows])
                optimizer.zero_grad(set_to_none=True)
                fabric.backward(loss)
                fabric.clip_gradients(agent, optimizer, max_norm=0.5)
                optimizer.step()
        fabric.log_dict({"loss": loss.item(), "seen": len(indexes)}, update)
    logger.finalize("success")
    return {"weights": weights(agent), "values": flat["values"].tolist()}


@program("two", "disks")
def players_and_trainers(_start: int) -> Any:
    """Decoupled PPO: groups of the script's own, by ``TorchCollective``, before any of Fabric's."""
    rank = int(os.environ.get("RANK", os.environ.get("NODE_RANK", "0")))
    os.environ.setdefault("RANK", str(rank))
    os.environ.setdefault("WORLD_SIZE", "2")
    world_collective = TorchCollective()
    world_collective.setup(timeout=timedelta(seconds=60))
    world_collective.create_group(ranks=[0, 1], timeout=timedelta(seconds=60))
    chunks: Any = [None]
    world_collective.scatter_object_list(chunks, [[1], [2]] if rank == 0 else [None, None], src=0)
    value = torch.full((3,), float(rank + 1))
    world_collective.broadcast(value, src=1)
    told: Any = [{"from": rank}]
    world_collective.broadcast_object_list(told, src=1)
    return {"chunk": chunks, "value": value.tolist(), "told": told, "owner": world_collective.world_size}


@program("two", "disks")
def meta_learning(_start: int) -> Any:
    """MAML: gradients of adapted copies are accumulated, and averaged by hand."""
    fabric = _fabric()
    model: Any = fabric.to_device(_network())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for iteration in range(2):
        optimizer.zero_grad()
        for task in range(2):
            generator = torch.Generator().manual_seed(100 * iteration + 10 * task + fabric.global_rank)
            x = torch.randn(6, 8, generator=generator)
            learner = copy.deepcopy(model)
            gradients = torch.autograd.grad(nn.functional.mse_loss(learner(x), x.sum(1, True)), [*learner.parameters()])
            for parameter, gradient in zip(learner.parameters(), gradients, strict=True):
                parameter.data.sub_(0.1 * gradient)
            fabric.backward(nn.functional.mse_loss(learner(x), x.sum(1, True)), model=None)
            for parameter, adapted in zip(model.parameters(), learner.parameters(), strict=True):
                assert adapted.grad is not None
                parameter.grad = adapted.grad if parameter.grad is None else parameter.grad + adapted.grad
        for parameter in model.parameters():
            summed: Any = fabric.all_reduce(parameter.grad, reduce_op="sum")
            parameter.grad = summed / fabric.world_size
        optimizer.step()
    return {"weights": weights(model), "all": torch.as_tensor(fabric.all_gather(model[0].weight)).tolist()}


@program("one", "two", "disks")
def folds(_start: int) -> Any:
    """A model for each fold, set up one after the other; the mean of their scores."""
    fabric = _fabric()
    fabric.seed_everything(1)
    rows, scores = data(), []
    parts = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).chunk(3)
    for fold, held in enumerate(parts):
        train = torch.cat([part for part in parts if part is not held])
        loaders: Any = fabric.setup_dataloaders(
            *(DataLoader(rows, 4, sampler=SubsetRandomSampler(part.tolist()), drop_last=True) for part in (train, held))
        )
        network = _network()
        model, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), 0.05))
        for x, y in loaders[0]:
            optimizer.zero_grad()
            fabric.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
        model.eval()
        with torch.no_grad():
            scores.append(sum(float(nn.functional.mse_loss(model(x), y)) for x, y in loaders[1]) / len(loaders[1]))
        fabric.save(f"fold-{fold}.pt", {"model": model, "fold": fold})
        fabric.barrier()
    return {"scores": scores, "mean": float(fabric.all_reduce(torch.tensor(scores).mean()))}  # type: ignore[arg-type]


class _Stops:
    def on_own_epoch_end(self, trainer: _OwnTrainer) -> None:
        trainer.should_stop = trainer.fabric.strategy.reduce_boolean_decision(trainer.epoch >= 5)


class _OwnTrainer:
    """A Trainer of the script's own on Fabric, for unchanged modules; it goes on from its own checkpoint."""

    def __init__(self, folder: str, epochs: int) -> None:
        parts: dict[str, Any] = {"callbacks": [_Stops()], "loggers": CSVLogger("logs")}
        self.fabric = Fabric(accelerator="cpu", **parts, **world())
        self.folder, self.epochs, self.epoch, self.step, self.should_stop = Path(folder), epochs, 0, 0, False

    def fit(self, module: Model, rows: Any, newest: str) -> None:
        self.fabric.launch()
        loaded = self.fabric.setup_dataloaders(rows, use_distributed_sampler=True)
        model, optimizer = self.fabric.setup(module, module.configure_optimizers())
        state = {"model": model, "optimizer": optimizer, "trainer": {"epoch": 0}}
        if newest:
            state |= self.fabric.load(self.folder / newest, {"model": model, "optimizer": optimizer})
            self.epoch = state["trainer"]["epoch"] + 1
        while self.epoch < self.epochs and not self.should_stop:
            for x, y in loaded:
                optimizer.zero_grad()
                self.fabric.backward(nn.functional.mse_loss(model(x), y))
                optimizer.step()
                self.step += 1
            self.fabric.call("on_own_epoch_end", trainer=self)
            self.fabric.log("epoch", self.epoch, self.step)
            state["trainer"] = {"epoch": self.epoch}
            self.fabric.save(self.folder / f"epoch-{self.epoch:04}.ckpt", state)
            self.epoch += 1


class _Forwards(Model):
    def forward(self, x: Tensor) -> Any:
        return self.net(x)


@program("one", "two", "disks", reloads=True)
def trainer_of_the_scripts_own(_start: int) -> Any:
    """Fits, and a second one goes on where the first has ended."""
    found: list[Any] = []
    for epochs in (2, 3):
        t, m = _OwnTrainer("checkpoints", epochs), _Forwards(seed=epochs)
        t.fit(m, loader(), newest="" if not found else "epoch-0001.ckpt")
        found.append([weights(m), t.epoch, t.step])
    return found


@program("two")
def sampler_of_the_scripts_own(_start: int) -> Any:
    """``RandomSampler`` and ``use_distributed_sampler=False``: each rank sees all rows."""
    fabric = _fabric()
    torch.manual_seed(fabric.global_rank)
    rows: Any = DataLoader(data(8), 2, sampler=RandomSampler(data(8)))
    loaded: Any = fabric.setup_dataloaders(rows, use_distributed_sampler=False)
    seen = [batch[0].sum().item() for batch in loaded]
    return {"seen": seen, "summed": float(fabric.all_reduce(torch.tensor(sum(seen)), reduce_op="sum"))}  # type: ignore[arg-type]
