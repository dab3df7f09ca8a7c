"""Ranks that Lightning starts by ``multiprocessing`` take locks, and say in FOLDER what they saw."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_sagemaker import node_lock, once_per_node

HOST = os.environ["SM_CURRENT_HOST"]
FOLDER = Path(sys.argv[1])


def share(key: str, rank: int) -> None:
    def work() -> int:
        time.sleep(0.5)  # the others have asked by then
        with (FOLDER / f"{key} {HOST} work").open("a") as file:
            file.write(f"{rank}\n")
        return os.getpid()

    worker = once_per_node(work, key=key)
    with node_lock(key):
        inside = FOLDER / f"{key} {HOST} inside"
        inside.mkdir()  # fails where somebody is
        time.sleep(0.2)
        inside.rmdir()
    (FOLDER / f"{key} {HOST} {rank}").write_text(json.dumps([os.getpid(), worker]))


def share_by_fabric(fabric: Any, key: str) -> None:
    share(key, fabric.global_rank)


class Shares(BoringModel):
    def on_fit_start(self) -> None:
        share("trainer", self.global_rank)


if __name__ == "__main__":
    for strategy in ("ddp_spawn", "ddp_fork"):
        fabric: Any = Fabric(accelerator="cpu", devices=2, strategy=strategy)
        fabric.launch(share_by_fabric, strategy)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(accelerator="cpu", devices=2, strategy="ddp_spawn", fast_dev_run=True, **quiet).fit(Shares())  # type: ignore[arg-type]
    for key in ("ddp_spawn", "ddp_fork", "trainer"):  # the script itself, which is no rank
        (FOLDER / f"{key} {HOST} script").write_text(json.dumps([os.getpid(), once_per_node(os.getpid, key=key)]))
