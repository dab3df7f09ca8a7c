"""Two hosts without a launcher, with the glue that stock needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from tests.beside_stock.model import Model, fitted, loader, trainer
from tests.beside_stock.registry import situation


@situation("hosts")
def glue_left_in(_start: int) -> Any:
    t, m = trainer(), Model()
    t.fit(m, loader(), loader(8))
    environment: Any = t.strategy.cluster_environment  # type: ignore[attr-defined]
    places = [environment.global_rank(), environment.local_rank(), environment.node_rank(), environment.world_size()]
    tested = t.test(m, loader(8), verbose=False)
    return fitted(m, t) | {"places": places, "nodes": t.num_nodes, "devices": t.num_devices, "tested": tested}


@situation("hosts")
def own_copies_of_a_checkpoint(_start: int) -> Any:
    """Every rank has fetched the checkpoint for itself, to a place of its own (ray#58936)."""
    first, m = trainer(), Model()
    first.fit(m, loader())
    first.save_checkpoint("model.ckpt")
    shared = first.strategy.broadcast(str(Path("model.ckpt").absolute()))
    mine = Path(tempfile.mkdtemp(), "model.ckpt")
    shutil.copy(shared, mine)
    t, n = trainer(max_epochs=3), Model(seed=2)
    t.fit(n, loader(), ckpt_path=str(mine))
    shutil.rmtree(mine.parent)
    return fitted(n, t)


@situation("hosts")
def logs_and_checkpoints_of_two_hosts(_start: int) -> Any:
    """Rank zero alone writes, where it has its own folder."""
    callback = ModelCheckpoint(monitor="val", save_last=True)
    t, m = trainer(enable_checkpointing=True, callbacks=[callback], logger=CSVLogger("logs")), Model()
    t.fit(m, loader(), loader(8))
    return fitted(m, t) | {"best": Path(callback.best_model_path).name, "last": Path(callback.last_model_path).name}


@situation("hosts")
def data_prepared_on_each_host(_start: int) -> Any:
    class Prepares(Model):
        def prepare_data(self) -> None:
            Path("prepared").touch()

        def train_dataloader(self) -> Any:
            return loader()

    t, m = trainer(), Prepares()
    t.fit(m)
    return fitted(m, t) | {"prepared": Path("prepared").exists()}


@situation("hosts")
def several_trainings_on_two_hosts(_start: int) -> Any:
    result = []
    for seed in range(3):
        t, m = trainer(max_epochs=1), Model(seed=seed)
        t.fit(m, loader())
        result.append(fitted(m, t))
    return result


@situation("hosts")
def nobody_is_rank_zero_before_there_is_a_trainer(_start: int) -> Any:
    """What ``rank_zero_only`` does after a Trainer was made; before, each host counts for itself in stock."""
    t = trainer()
    called = rank_zero_only(lambda: t.global_rank)()
    return {"called": called, "rank": vars(rank_zero_only)["rank"], "node": os.environ["NODE_RANK"]}
