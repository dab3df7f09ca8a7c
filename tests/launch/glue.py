"""AWS's recipe of docs/moving.md, left in a script; `trainer` is what follows it."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import DDPStrategy

env = LightningEnvironment()
env.world_size = lambda: int(os.environ["WORLD_SIZE"])  # type: ignore[method-assign]
env.global_rank = lambda: int(os.environ["RANK"])  # type: ignore[method-assign]
ddp = DDPStrategy(cluster_environment=env, process_group_backend="gloo")
num_gpus = int(os.environ["SM_NUM_GPUS"])
trainer = Trainer(
    accelerator="cpu",
    strategy=ddp,
    devices=num_gpus,
    num_nodes=int(os.environ["WORLD_SIZE"]) // num_gpus,
    max_epochs=1,
    limit_val_batches=0,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(BoringModel())
print("BATCHES", trainer.global_rank, trainer.num_training_batches, "WORLD_SIZE" in os.environ)
try:
    trainer.validate(BoringModel(), verbose=False)
except KeyError as error:
    print("SECOND", trainer.num_nodes, repr(error))
