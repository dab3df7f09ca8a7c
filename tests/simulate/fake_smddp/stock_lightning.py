"""What everybody is told to write: DDPStrategy(process_group_backend="smddp"), with and without what breaks it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401 - registers the backend
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from lightning.pytorch.strategies import DDPStrategy

if TYPE_CHECKING:
    import torch

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class Logs(BoringModel):
    options: dict[str, Any]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        self.log("loss", output["loss"], **self.options)  # type: ignore[index]
        return output


class Prepares(BoringModel):
    def prepare_data(self) -> None:
        """Overridden, as real ones are."""


def fit(model: BoringModel, **options: Any) -> str:
    if isinstance(model, Logs):
        model.options = options
    trainer = Trainer(
        accelerator="cpu",
        devices=size,
        strategy=DDPStrategy(process_group_backend="smddp"),
        plugins=[LightningEnvironment()],
        max_steps=3,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(model)
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"
    return f"{trainer.global_step} steps"


results = {
    "plain": fit(BoringModel()),
    "log": fit(Logs()),
    "log, mean": fit(Logs(), sync_dist=True),
    "log, sum": fit(Logs(), sync_dist=True, reduce_fx="sum"),
    "log, max": fit(Logs(), sync_dist=True, reduce_fx="max"),
    "prepare_data": fit(Prepares()),
}
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(results), encoding="utf-8")
