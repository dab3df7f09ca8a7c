"""A Trainer of one process that logs; prints what its steps reduce: shapes, and whether without waiting.

log_twenty_metrics.py PACKAGE STRATEGY STORE_FILE
"""

import importlib
import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

package, strategy, store = sys.argv[1:]
pl: Any = importlib.import_module(package)
shapes: list[Any] = []
seen: list[Any] = []
all_reduce = dist.all_reduce


def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    shapes.append([list(tensor.shape), kwargs.get("async_op", False)])
    return all_reduce(tensor, *args, **kwargs)


class Module(pl.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def on_train_batch_start(self, *_: Any) -> None:
        shapes.clear()

    def training_step(self, batch: torch.Tensor) -> None:
        for number in range(20):
            self.log(f"metric {number}", batch.mean(), sync_dist=True)

    def on_train_batch_end(self, *_: Any) -> None:
        seen.extend(shapes)

    def configure_optimizers(self) -> None:
        return None


dist.all_reduce = counted
dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
batches: Any = [torch.ones(2) for _ in range(4)]
trainer = pl.Trainer(
    accelerator="cpu",
    devices=1,
    strategy=strategy,
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Module(), DataLoader(batches, batch_size=None))
print(json.dumps(seen))
