"""Trainings of a job, as a script has them; run once for each start of the job: ``restarts.py PACKAGE START``.

Prints one line of JSON: by training, what each of its fits did.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

package, start = sys.argv[1], int(sys.argv[2])
pl: Any = import_module(package)
BoringModel: Any = import_module(f"{package}.demos.boring_classes").BoringModel
ModelCheckpoint = pl.callbacks.ModelCheckpoint
torch = import_module("torch")

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "limit_train_batches": 2}
FIRST = start == 1


class Killed(Exception):  # noqa: N818
    """Stands for the end of the container."""


class Model(BoringModel):  # type: ignore[misc]
    lr = 0.1
    kept: Any = None  # hyperparameters

    def __init__(self, stop_at: int | None = None, width: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(32, width)
        self.stop_at, self.batches = stop_at, 0
        if self.kept:
            self.save_hyperparameters(self.kept)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.stop_at:
            raise Killed

    def training_step(self, batch: object, index: int) -> object:
        self.batches += 1
        return super().training_step(batch, index)

    def configure_optimizers(self) -> object:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def trainer(epochs: int, **given: object) -> Any:
    return pl.Trainer(max_epochs=epochs, limit_val_batches=0, **{**QUIET, **given})


def fit(made: Any, stop_at: int | None = None, width: int = 2, **how: object) -> dict[str, object]:
    model = Model(stop_at, width)
    try:
        made.fit(model, **how)
    except Killed:
        return {"batches": model.batches, "killed": True}
    best = made.checkpoint_callback.best_model_path if made.checkpoint_callback else None
    return {
        "batches": model.batches,
        "steps": made.global_step,
        "best": best,
        "weight": model.layer.weight[0, 0].item(),
    }


def csv(name: str) -> Any:
    return pl.loggers.CSVLogger("logs", name=name)


def plain() -> object:
    Model.kept = {"data": Path("data")}  # no plain number or text, of which alone torch's default loads
    try:
        return [fit(trainer(4, logger=csv("plain")), 2 if FIRST else None)]
    finally:
        Model.kept = None


def written_anew() -> object:
    """A sharded checkpoint that takes the place of an older one: whether that is complete meanwhile."""
    made, seen = trainer(1, logger=False, default_root_dir="anew"), []
    fit(made)
    end = Path("anew.ckpt", "meta.pt")
    end.parent.mkdir()
    end.touch()
    made.strategy.save_checkpoint = lambda *_, **__: seen.append(end.exists())
    made.save_checkpoint(end.parent)
    return seen


def undisturbed() -> object:
    return [fit(trainer(4, logger=False, enable_checkpointing=False))]


def folds() -> object:
    """Without a logger all of them lie in one folder."""
    done = []
    for fold in range(3):
        done.append(fit(trainer(2, logger=False, default_root_dir="folds"), 1 if FIRST and fold == 1 else None))
        if "killed" in done[-1]:
            break
    return done


def finetune() -> object:
    return [
        fit(trainer(2, default_root_dir="tuned")),
        fit(trainer(2, default_root_dir="tuned"), 1 if FIRST else None, 3),
    ]


def searched() -> object:
    """A smoke test and a search for the learning rate come first."""
    smoke = fit(trainer(1, fast_dev_run=True, default_root_dir="searched"))
    made = trainer(2, logger=False, default_root_dir="searched")
    import_module(f"{package}.tuner").Tuner(made).lr_find(Model(), num_training=3)
    return [smoke, fit(made, 1 if FIRST else None)]


def given_folder() -> object:
    callback = ModelCheckpoint("mine", filename="{epoch}")
    return [fit(trainer(2, logger=False, callbacks=[callback]), 1 if FIRST else None), callback.dirpath]


def taken_folder() -> object:
    """One that has something in it."""
    Path("taken").mkdir()
    Path("taken", "mine.txt").write_text("", encoding="utf-8")
    callback = ModelCheckpoint("taken", filename="{epoch}")
    return [fit(trainer(1, logger=False, callbacks=[callback]))]


def last() -> object:
    callback = ModelCheckpoint(save_last=True)
    return [fit(trainer(2, logger=csv("last"), callbacks=[callback]), 1 if FIRST else None, ckpt_path="last")]


def longer() -> object:
    """One Trainer goes on by itself, from where it is."""
    made = trainer(1, logger=csv("longer"))
    first = fit(made)
    made.fit_loop.max_epochs = 2
    return [first, fit(made)]


def chosen() -> object:
    """What the script names comes first."""
    path, made = "chosen.ckpt", trainer(1, logger=False, default_root_dir="chosen")
    fit(made)
    made.save_checkpoint(path)
    by_name = fit(trainer(2, logger=False, default_root_dir="chosen"), ckpt_path=path)
    other = trainer(2, logger=False, default_root_dir="chosen")
    other.ckpt_path = path
    return [by_name, fit(other)]


def weights() -> object:
    """The newest file holds weights only, from which no training continues."""
    kept = [
        ModelCheckpoint(filename="full", every_n_epochs=2),
        ModelCheckpoint(filename="weights", save_weights_only=True, every_n_epochs=3),
    ]
    return [fit(trainer(4, logger=csv("weights"), callbacks=kept), 3 if FIRST else None)]


if __name__ == "__main__":
    trainings = (
        plain,
        written_anew,
        undisturbed,
        folds,
        finetune,
        searched,
        given_folder,
        taken_folder,
        last,
        longer,
        chosen,
        weights,
    )
    print("RESULT", json.dumps({training.__name__: training() for training in trainings}))
