"""Ranks that Lightning starts by ``multiprocessing``: spawned, forked, on one host and on two."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import STRATEGY_REGISTRY
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import StrategyRegistry

from tests.beside_stock.model import QUIET, Model, loader, logged, smddp, weights
from tests.beside_stock.registry import ONCE, situation

_LIMITS = {1: 2.0, 2: 8.0}  # seconds of silence that the heartbeat allows here, by hosts
_STARTING = ("spawn", "fork", "notebook")  # in the names of strategies that start processes


def _numbers(strategy: Any) -> Any:
    environment = strategy.cluster_environment
    return {
        "strategy": [strategy.global_rank, strategy.local_rank, strategy.node_rank, strategy.world_size],
        "environment": [
            environment.global_rank(),
            environment.local_rank(),
            environment.node_rank(),
            environment.world_size(),
        ],
        "group": [torch.distributed.get_rank(), torch.distributed.get_world_size()],
        "zero": [strategy.is_global_zero, rank_zero_only(lambda: True)(), vars(rank_zero_only)["rank"]],
    }


class _Tells(Model):
    """Each rank writes what it knows, and trains for longer than a silent rank may be."""

    pause = 0.0

    def on_train_end(self) -> None:
        time.sleep(self.pause)
        found = _numbers(self.trainer.strategy) | {"weights": weights(self), "batches": self.seen}
        Path(f"rank {self.global_rank}.json").write_text(json.dumps(found))


def _told(folder: str = ".") -> Any:
    return {path.name: json.loads(path.read_text()) for path in sorted(Path(folder).glob("rank *.json"))}


def _fit(strategy: Any, hosts: int = 1, *, pauses: bool = False) -> Any:
    os.environ["LIGHTNING_SAGEMAKER_HEARTBEAT"] = str(_LIMITS[hosts])
    m = _Tells()
    m.pause = 1.25 * _LIMITS[hosts] if pauses else 0
    t = Trainer(**(QUIET | {"devices": 2, "num_nodes": hosts, "strategy": strategy}))
    before = [t.global_rank, t.local_rank, t.node_rank, t.world_size, t.is_global_zero]
    t.fit(m, loader())
    return {"before": before, "told": _told(), "weights": weights(m), "metrics": logged(t.callback_metrics)}


def _test_on_one_device() -> Any:
    t = Trainer(**(QUIET | {"devices": 1, "num_nodes": 1}))
    return [t.test(Model(), loader(8), verbose=False), t.world_size, t.is_global_zero]


def _train_with_fabric(fabric: Any, lingers: float) -> Any:
    fabric.seed_everything(3, verbose=False)
    m = Model().net
    model, optimizer = fabric.setup(m, torch.optim.SGD(m.parameters(), 0.05))
    for batch in fabric.setup_dataloaders(loader()):
        optimizer.zero_grad()
        fabric.backward(torch.nn.functional.mse_loss(model(batch[0]), batch[1]))
        optimizer.step()
    if fabric.global_rank == 0:
        time.sleep(lingers)
    found = _numbers(fabric.strategy) | {"weights": weights(m)}
    Path(f"rank {fabric.global_rank}.json").write_text(json.dumps(found))
    return fabric.global_rank


def _launch(strategy: str, hosts: int = 1, *, lingers: bool = False) -> Any:
    os.environ["LIGHTNING_SAGEMAKER_HEARTBEAT"] = str(_LIMITS[hosts])
    fabric: Any = Fabric(accelerator="cpu", devices=2, num_nodes=hosts, strategy=strategy)
    before = [fabric.global_rank, fabric.local_rank, fabric.node_rank, fabric.world_size]
    returned = fabric.launch(_train_with_fabric, 1.25 * _LIMITS[hosts] if lingers else 0)
    return {"before": before, "returned": returned, "told": _told()}


@situation()
def names_of_strategies_that_start_processes(_start: int) -> Any:
    found = {}
    for make, registry in ((Trainer, StrategyRegistry), (Fabric, STRATEGY_REGISTRY)):
        for name in (name for name in registry if name.startswith("ddp_") and any(how in name for how in _STARTING)):
            quiet = QUIET if make is Trainer else {"accelerator": "cpu"}
            strategy: Any = make(**quiet, devices=2, strategy=name).strategy
            found[f"{make.__name__} {name}"] = [
                type(strategy).__name__,
                strategy.global_rank,
                strategy.world_size,
                strategy.launcher.is_interactive_compatible,
                str(getattr(strategy, "_ddp_kwargs", None)),
            ]
    return found


@situation(arms=ONCE)
def spawned_ranks(_start: int) -> Any:
    """``ddp_spawn`` (pytorch-lightning#6213, #16136)."""
    return _fit("ddp_spawn", pauses=True)


@situation(arms=ONCE)
def forked_ranks(_start: int) -> Any:
    """``ddp_notebook``, twice in one process, and a later Trainer on one device."""
    return [_fit("ddp_notebook", pauses=True), _fit("ddp_fork_find_unused_parameters_true"), _test_on_one_device()]


@situation(arms=ONCE, nightly=True)
def spawned_ranks_of_fabric(_start: int) -> Any:
    return _launch("ddp_spawn")


@situation(arms=ONCE)
def forked_ranks_of_fabric(_start: int) -> Any:
    return [_launch("ddp_notebook"), _launch("ddp_fork")]


@situation("hosts", arms=ONCE, nightly=True)
def spawned_ranks_on_two_hosts(_start: int) -> Any:
    return _fit("ddp_spawn", 2)


@situation("hosts", arms=ONCE)
def forked_ranks_on_two_hosts(_start: int) -> Any:
    """And a later Trainer on one device, which runs on each host by itself."""
    return [_fit("ddp_notebook", 2, pauses=True), _fit("ddp_fork", 2), _test_on_one_device()]


@situation("hosts", arms=ONCE, nightly=True)
def spawned_ranks_of_fabric_on_two_hosts(_start: int) -> Any:
    return _launch("ddp_spawn", 2)


@situation("hosts", arms=ONCE)
def forked_ranks_of_fabric_on_two_hosts(_start: int) -> Any:
    """The ranks of one host end while rank 0 goes on for longer than a silent host may."""
    return _launch("ddp_notebook", 2, lingers=True)


def _meet_beside(fabric: Any, name: str, other: str) -> Any:
    fabric.barrier()
    Path(f"{name} {fabric.global_rank}").touch()
    until = time.monotonic() + 60
    while not Path(f"{other} 0").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return torch.distributed.get_world_size()


def _train_beside(name: str, other: str) -> None:
    fabric: Any = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
    Path(f"{name}.json").write_text(json.dumps(fabric.launch(_meet_beside, name, other)))


@situation(arms=ONCE)
def two_trainings_beside_each_other(_start: int) -> Any:
    """Two scripts on one host, where nothing gives them a port, as with SDK v3: stock takes a free one for each."""
    os.environ.pop("MASTER_PORT", None)
    fork = multiprocessing.get_context("fork")
    scripts = [fork.Process(target=_train_beside, args=names) for names in (("a", "b"), ("b", "a"))]
    for script in scripts:
        script.start()
    for script in scripts:
        script.join()
    return [script.exitcode for script in scripts] + [Path(f"{name}.json").read_text() for name in "ab"]


@situation(arms=ONCE, nightly=True)
def strategy_objects_that_start_processes(_start: int) -> Any:
    """``DDPStrategy`` in stock, and ``SMDDPStrategy`` in its place, which falls back to gloo here."""
    if smddp() == "ddp":
        from lightning.pytorch.strategies import DDPStrategy as Strategy  # noqa: PLC0415 - one of two
    else:
        from lightning_sagemaker import SMDDPStrategy as Strategy  # noqa: PLC0415 - the other
    made: list[Any] = [Strategy(start_method=how, process_group_backend=None) for how in ("spawn", "fork")]
    return [_fit(strategy) for strategy in made]


class _Prepares(Model):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def prepare_data(self) -> None:
        if self.name == "a":
            _wait_for("b prepares")
            raise OSError
        Path("b prepares").touch()
        _wait_for("a ended")


def _wait_for(name: str) -> None:
    until = time.monotonic() + 60
    while not Path(name).exists() and time.monotonic() < until:
        time.sleep(0.02)


def _fit_named(name: str) -> None:
    try:
        Trainer(**QUIET, devices=2, strategy="ddp_fork").fit(_Prepares(name), loader())
    finally:
        Path(f"{name} ended").touch()


@situation(arms=ONCE)
def failed_preparation_beside_another_training(_start: int) -> Any:
    """Two scripts on one host: ``prepare_data`` of one fails, the other one trains."""
    os.environ.pop("MASTER_PORT", None)
    fork = multiprocessing.get_context("fork")
    scripts = [fork.Process(target=_fit_named, args=(name,)) for name in ("a", "b")]
    for script in scripts:
        script.start()
    for script in scripts:
        script.join()
    return [script.exitcode for script in scripts]
