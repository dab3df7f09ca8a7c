"""Everything that loads what rank 0 wrote, in one job on hosts with disks of their own.

own_disks.py --package lightning.pytorch --strategy ddp
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

parser = argparse.ArgumentParser()
parser.add_argument("--package", default="lightning.pytorch")
parser.add_argument("--strategy", default="ddp")
GIVEN = parser.parse_args()

pl: Any = importlib.import_module(GIVEN.package)
fabric_package = "lightning.fabric" if GIVEN.package == "lightning.pytorch" else "lightning_fabric"
Fabric: Any = importlib.import_module(fabric_package).Fabric
ModelCheckpoint: Any = importlib.import_module(f"{GIVEN.package}.callbacks").ModelCheckpoint
Tuner: Any = importlib.import_module(f"{GIVEN.package}.tuner").Tuner
BoringModel: Any = importlib.import_module(f"{GIVEN.package}.demos.boring_classes").BoringModel

logging.getLogger("lightning_sagemaker").setLevel(logging.INFO)
logging.getLogger("lightning_sagemaker").addHandler(logging.FileHandler(f"/opt/ml/output/data/log-{os.getpid()}"))
FOLDER = Path("/root/training")  # on each host's own disk
SMALL = Path("/root/small")  # a disk of 64 kB on the hosts that are not rank 0's
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
LIMITS = {"limit_train_batches": 3, "limit_val_batches": 1, "limit_test_batches": 1, "limit_predict_batches": 1}


class Model(BoringModel):  # type: ignore[misc] # of either distribution
    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr


def trainer(epochs: int, folder: Path = FOLDER) -> Any:
    callback = ModelCheckpoint(dirpath=folder, save_last=True)
    given = {"strategy": GIVEN.strategy, "callbacks": [callback], "default_root_dir": FOLDER}
    return pl.Trainer(max_epochs=epochs, accelerator="cpu", **QUIET, **LIMITS, **given)


def say(what: str, value: object) -> None:
    with Path(f"/opt/ml/output/data/seen-{RANK}.jsonl").open("a") as file:
        file.write(json.dumps([what, value]) + "\n")


def weight(model: Any) -> float:
    return round(float(next(model.parameters()).double().sum()), 6)


def failure_of(function: Callable[[], object]) -> str:
    try:
        function()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "none"


os.makedirs(FOLDER, exist_ok=True)  # noqa: PTH103
first = trainer(1)
model = Model()
first.fit(model)
RANK = first.global_rank
HOST = RANK // 2
barrier = first.strategy.barrier
best = first.checkpoint_callback.best_model_path  # which the next fit replaces
say("files", sorted(path.name for path in FOLDER.iterdir()))

for loads in ("test", "validate", "predict"):
    other = Model(lr=0.5)
    getattr(first, loads)(other, ckpt_path="best", **({} if loads == "predict" else {"verbose": False}))
    say(loads, weight(other))
say("load_from_checkpoint", weight(Model.load_from_checkpoint(best)))
kept, second = FOLDER / "kept.ckpt", FOLDER / "second.ckpt"
first.save_checkpoint(kept)
Model.load_from_checkpoint(kept)

again = trainer(2)
again.fit(Model(), ckpt_path="last")
say("last", again.global_step)
again.save_checkpoint(second)
Model.load_from_checkpoint(second)
# This host's last.ckpt is a copy of the first fit's now; rank 0's is the second fit's.
third = trainer(3)
third.fit(Model(), ckpt_path="last")
say("last again", third.global_step)

tuned = Model()
finder = Tuner(trainer(1))
finder.lr_find(tuned, num_training=4)
barrier()
say("left by lr_find", [path.name for path in FOLDER.iterdir() if "lr_find" in path.name])

# What cannot be.
say("nowhere", failure_of(lambda: trainer(1).test(Model(), ckpt_path=str(FOLDER / "nowhere.ckpt"), verbose=False)))
if RANK == 2:
    torch.save(torch.load(kept, weights_only=False), FOLDER / "elsewhere.ckpt")
barrier()
say("elsewhere", failure_of(lambda: trainer(1).fit(Model(), ckpt_path=str(FOLDER / "elsewhere.ckpt"))))
if RANK % 2 == 0 and HOST == 1:
    SMALL.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(SMALL)], check=True)  # noqa: S607
barrier()
if RANK == 0:
    SMALL.mkdir()
    torch.save({"state_dict": {}, "filling": torch.zeros(100_000)}, SMALL / "large.ckpt")
barrier()
say(
    "disk full", failure_of(lambda: trainer(1, SMALL).test(Model(), ckpt_path=str(SMALL / "large.ckpt"), verbose=False))
)
say("left on the full disk", sorted(path.name for path in SMALL.iterdir()))
# Own copies of one checkpoint, and different ones.
own = FOLDER / f"own-{RANK}.ckpt"
own.write_bytes(kept.read_bytes())
say("own copies", failure_of(lambda: trainer(2).fit(Model(), ckpt_path=str(own))))
mine = kept if RANK < 3 else second
say("different", failure_of(lambda: trainer(3).fit(Model(), ckpt_path=mine)))
say("different, in a test", failure_of(lambda: trainer(3).test(Model(), ckpt_path=mine, verbose=False)))

# Fabric, in the same process group.
fabric = Fabric(accelerator="cpu", strategy="ddp" if GIVEN.strategy == "ddp" else GIVEN.strategy)
fabric.launch()
for number in (1, 2):
    fabric.save(FOLDER / "state.ckpt", {"number": number})
    say(f"fabric {number}", fabric.load(FOLDER / "state.ckpt")["number"])
for number in (3, 4):
    if RANK == 0:
        torch.save({"number": number}, FOLDER / "raw.ckpt")  # not through Lightning: rank 0 tells of it as it loads it
    fabric.barrier()
    say(f"fabric {number}", fabric.load(FOLDER / "raw.ckpt")["number"])
own = FOLDER / "own.ckpt"
if RANK % 2 == 0:
    torch.save({"number": RANK}, own)  # each host has its own
fabric.barrier()
say("fabric, own files", fabric.load(own)["number"])
fabric.save(FOLDER / "part.ckpt", {"number": 5})
layer = torch.nn.Linear(1, 1)
if RANK == 0:
    torch.save(layer.state_dict(), FOLDER / "layer.ckpt")
    fabric.load_raw(FOLDER / "layer.ckpt", layer)
if RANK == 3:  # a part of the ranks, and one that nobody has told of so far
    fabric.load_raw(FOLDER / "layer.ckpt", layer)
    say("fabric, a part", torch.equal(layer.weight, torch.load(FOLDER / "layer.ckpt")["weight"]))
fabric.barrier()
say("fabric, nowhere", failure_of(lambda: fabric.load(FOLDER / "nowhere.ckpt")))
fabric.barrier()
say("left at the end", sorted(path.name for path in FOLDER.glob(".*")))
