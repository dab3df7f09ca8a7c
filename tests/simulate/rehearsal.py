"""A spot job: the digits of examples/digits, trained with checkpoints, by a script that searches for them or does not.

Run in a simulated job whose source folder holds the example as ``digits.py``.
"""

import importlib
import os
import re
import sys
import time
from pathlib import Path

import lightning as L  # noqa: N812 - as its own documentation writes
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

digits = importlib.import_module("digits")
way, weights, killed_at, share = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
EPOCHS, BATCHES = 12, 8


class Slow(L.Callback):
    steps = 0

    def on_train_batch_end(self, *_: object) -> None:
        self.steps += 1
        time.sleep(pause)


def epoch(path: Path) -> int:
    return int(re.findall(r"epoch=(\d+)", path.name)[0])


# So slow that the given share of the training is done when the hosts are taken away; afterwards as fast as it can.
pause = max(killed_at - time.time(), 0) / (EPOCHS * BATCHES * share)
L.seed_everything(42)
slow = Slow()
callbacks: list[L.Callback] = [slow]
newest = None
if way == "search":
    kept = Path(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints")
    newest = max(kept.glob("epoch=*.ckpt"), key=epoch, default=None)
    callbacks.append(ModelCheckpoint(kept, save_top_k=-1))
trainer = L.Trainer(
    accelerator="cpu",
    callbacks=callbacks,
    enable_model_summary=False,
    enable_progress_bar=False,
    limit_train_batches=BATCHES,
    limit_val_batches=0,
    logger=False,
    max_epochs=EPOCHS,
)
model = digits.Classifier(lr=4e-3)
trainer.fit(model, digits.Digits(16), ckpt_path=newest)
if trainer.is_global_zero:
    torch.save(model.state_dict(), weights)
    print("steps in this start:", slow.steps, flush=True)
