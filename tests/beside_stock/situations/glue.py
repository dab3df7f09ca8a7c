"""Lines of docs/moving.md, left in scripts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from tests.beside_stock.model import Model, fitted, loader, trainer, world
from tests.beside_stock.registry import ONCE, situation


@situation("two", arms=(*ONCE, "off"))
def recipe_of_aws(_start: int) -> Any:
    """Its environment stays Lightning's in all that it does not replace; a second call of the Trainer fails."""
    env = LightningEnvironment()
    env.world_size = lambda: int(os.environ["WORLD_SIZE"])  # type: ignore[method-assign]
    env.global_rank = lambda: int(os.environ["RANK"])  # type: ignore[method-assign]
    ddp = DDPStrategy(cluster_environment=env, process_group_backend="gloo")
    num_gpus = int(os.environ["SM_NUM_GPUS"])
    t = trainer(strategy=ddp, devices=num_gpus, num_nodes=int(os.environ["WORLD_SIZE"]) // num_gpus)
    rank, m = int(os.environ["RANK"]), Model()
    assert t.strategy.cluster_environment is env  # type: ignore[attr-defined]
    assert [t.world_size, t.global_rank, t.local_rank, env.local_rank(), env.node_rank()] == [2, rank, rank, rank, 0]
    t.fit(m, loader())
    assert t.num_training_batches == 4  # of eight
    error = None
    try:
        t.validate(m, loader(8), verbose=False)
    except KeyError as caught:
        error = repr(caught)
    assert error == "KeyError('WORLD_SIZE')"
    return fitted(m, t)


@situation("two", arms=ONCE, starts=2)
def lines_that_are_not_needed(start: int) -> Any:
    """A guard around SMDDP, an interface for NCCL that is not there, a scaled rate, the newest checkpoint."""
    os.environ["NCCL_SOCKET_IFNAME"] = "eth0"
    backend = "gloo"
    with contextlib.suppress(ImportError):
        import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401, PLC0415 - the guard

        backend = "smddp"
    newest = max(Path("kept").glob("*.ckpt"), key=os.path.getmtime, default=None)
    assert (newest is None) == (start == 1)
    strategy = DDPStrategy(process_group_backend=backend)
    callback = ModelCheckpoint(dirpath="kept", save_top_k=-1)
    t = trainer(strategy=strategy, max_epochs=2 * start, enable_checkpointing=True, callbacks=[callback])
    m = Model(lr=0.02 * t.world_size)
    assert m.lr == 0.04
    t.fit(m, loader(), ckpt_path=newest)
    assert t.global_step == 8 * start  # it went on from there
    return fitted(m, t)


@situation("two", arms=ONCE)
def download_by_the_first_of_each_host(_start: int) -> Any:
    fabric = Fabric(**({"accelerator": "cpu"} | world()))
    fabric.launch()
    if fabric.local_rank == 0:
        torch.save(torch.arange(3), "data.pt")
    fabric.barrier()
    return torch.load("data.pt").tolist()
