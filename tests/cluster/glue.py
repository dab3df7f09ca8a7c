"""Lines of docs/moving.md that describe hosts and devices, left in; what was seen is printed."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "limit_train_batches": 4,
    "limit_val_batches": 0,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

if __name__ == "__main__":
    hosts = json.loads(os.environ["SM_HOSTS"])
    os.environ["MASTER_ADDR"] = hosts[0]
    os.environ.setdefault("MASTER_PORT", "7777")
    if "RANK" not in os.environ:
        os.environ["NODE_RANK"] = str(hosts.index(os.environ["SM_CURRENT_HOST"]))
    torch.manual_seed(1)
    devices = int(os.environ["SM_NUM_GPUS"])
    trainer, model = Trainer(**QUIET, devices=devices, num_nodes=len(hosts), strategy="ddp"), BoringModel()
    trainer.fit(model)
    result = [trainer.global_rank, trainer.world_size, trainer.local_rank, model.layer.weight.sum().item()]
    print(f"TRAINED {json.dumps(result)}\n", end="", flush=True)  # in one piece: mpirun shows pieces as lines
