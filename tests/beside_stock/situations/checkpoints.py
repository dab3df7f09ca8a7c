"""What ``ModelCheckpoint`` and its relatives write, and who reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.tuner.tuning import Tuner

from tests.beside_stock.model import Model, fitted, loader, raised, trainer, weights
from tests.beside_stock.registry import ANY, ONCE, WITH_RESUME, situation

from .folders import MOVED, plain

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def _fit(*callbacks: ModelCheckpoint, **arguments: Any) -> Trainer:
    t = plain(logger=False, callbacks=list(callbacks), **arguments)
    t.fit(Model(), loader(), loader(8))
    return t


def _state(callback: ModelCheckpoint) -> Any:
    best = {Path(path).name: float(score) for path, score in callback.best_k_models.items()}
    return [
        best,
        Path(callback.best_model_path).name,
        Path(callback.last_model_path).name,
        Path(callback.kth_best_model_path).name,
    ]


@situation()
def last_as_a_link(_start: int) -> Any:
    callback = ModelCheckpoint("link", save_last="link", monitor="val")
    _fit(callback)
    return {"state": _state(callback), "link": Path("link/last.ckpt").is_symlink()}


@situation()
def all_of_them_by_steps(_start: int) -> Any:
    callback = ModelCheckpoint("steps", save_top_k=-1, every_n_train_steps=3)
    _fit(callback)
    return _state(callback)


@situation(arms=WITH_RESUME, allowed=MOVED)
def two_model_checkpoints(_start: int) -> Any:
    best = ModelCheckpoint(monitor="val", filename="best-{val:.3f}", save_top_k=2)
    steps = ModelCheckpoint(every_n_train_steps=5, filename="step-{step}", save_top_k=-1)
    _fit(best, steps)
    return [_state(best), _state(steps)]


@situation()
def slash_in_a_file_name(_start: int) -> Any:
    callback = ModelCheckpoint("slash", filename="run/{epoch}", save_top_k=-1)
    _fit(callback)
    return _state(callback)


@situation()
def weights_only(_start: int) -> Any:
    callback = ModelCheckpoint("weights", save_weights_only=True, save_last=True)
    t = _fit(callback)
    m = Model(seed=5)
    return {
        "state": _state(callback),
        "test": t.test(m, loader(8), ckpt_path="best", verbose=False),
        "continues": raised(lambda: t.fit(Model(), loader(), ckpt_path=callback.last_model_path)),
    }


@situation(arms=WITH_RESUME, allowed=MOVED)
def best_in_validate_test_and_predict(_start: int) -> Any:
    t, m = plain(callbacks=[ModelCheckpoint(monitor="val")]), Model()
    t.fit(m, loader(), loader(8))
    with torch.no_grad():
        m.net.weight.zero_()
    predicted = t.predict(m, loader(8), ckpt_path="best")
    return {
        "validated": t.validate(m, loader(8), ckpt_path="best", verbose=False),
        "tested": t.test(m, loader(8), ckpt_path="best", verbose=False),
        "predicted": [torch.as_tensor(batch).tolist() for batch in predicted or ()],
        "weights": weights(m),
    }


@situation("two")
def best_on_two_processes(_start: int) -> Any:
    t, m = trainer(enable_checkpointing=True, callbacks=[ModelCheckpoint(monitor="val")]), Model()
    t.fit(m, loader(), loader(8))
    return fitted(m, t) | {"tested": t.test(m, loader(8), ckpt_path="best", verbose=False)}


@situation(
    "two",
    arms=("plugin", "export"),
    allowed={"export": {"files in job": ["model/best.ckpt", "model/own.txt"], "content of job/model/best.ckpt": ANY}},
)
def own_file_beside_the_model(_start: int) -> Any:
    """A script that puts something into the folder of the model itself, before and after its fits."""
    model = Path(os.environ["SM_MODEL_DIR"])
    t, m = trainer(enable_checkpointing=True, callbacks=[ModelCheckpoint(monitor="val")]), Model()
    (model / "own.txt").write_text("before")
    t.fit(m, loader(), loader(8))
    t.test(m, loader(8), ckpt_path="best", verbose=False)
    (model / "own.txt").write_text("after")
    return fitted(m, t)


@situation("two")
def saved_and_loaded_elsewhere(_start: int) -> Any:
    """``trainer.save_checkpoint`` on all ranks, then another class method, another Trainer, a plain ``torch.load``."""
    t, m = trainer(), Model()
    t.fit(m, loader())
    t.save_checkpoint("mine/model.ckpt")
    again, n = trainer(max_epochs=4), Model(seed=3)
    again.fit(n, loader(), ckpt_path="mine/model.ckpt")
    return {
        "same": weights(Model.load_from_checkpoint("mine/model.ckpt")) == weights(m),
        "continued": fitted(n, again),
        "keys": sorted(torch.load("mine/model.ckpt", weights_only=False)),
    }


@situation()
def no_such_checkpoint(_start: int) -> Any:
    """A file that is not there, ``"best"`` without a training, ``"last"`` without one."""
    t = plain(logger=False)
    return {
        "fit": raised(lambda: t.fit(Model(), loader(), ckpt_path="nowhere.ckpt")),
        "best": raised(lambda: plain(logger=False).test(Model(), loader(8), ckpt_path="best", verbose=False)),
        "last": raised(lambda: plain(logger=False, max_epochs=1).fit(Model(), loader(), ckpt_path="last")),
    }


@situation()
def checkpoint_of_an_exception(_start: int) -> Any:
    class Fails(Model):
        def on_train_epoch_end(self) -> None:
            if self.current_epoch == 1:
                raise ArithmeticError

    callback = OnExceptionCheckpoint("failed")
    t = plain(logger=False, callbacks=[callback], enable_checkpointing=True)
    return raised(lambda: t.fit(Fails(), loader()))


@situation(arms=WITH_RESUME, allowed=MOVED)
def learning_rate_search_then_fit(_start: int) -> Any:
    """``Tuner.lr_find`` saves and restores a checkpoint of its own (pytorch-lightning#9574, #18812)."""
    t, m = plain(), Model()
    found = Tuner(t).lr_find(m, loader(), num_training=6)
    m.seen = 0
    t.fit(m, loader())
    return fitted(m, t) | {"rates": found.results["lr"] if found else None, "lr": m.lr}


@situation(arms=WITH_RESUME, allowed=MOVED)
def batch_size_search_then_fit(_start: int) -> Any:
    class Sized(Model):
        batch_size = 2

        def train_dataloader(self) -> Any:
            return loader(batch_size=self.batch_size)

        def val_dataloader(self) -> Any:
            return loader(8)

    t, m = plain(), Sized()
    Tuner(t).scale_batch_size(m, max_trials=2)
    m.seen = 0
    t.fit(m)
    return fitted(m, t) | {"batch size": m.batch_size}


@situation(arms=WITH_RESUME, allowed=MOVED)
def smoke_test_then_fit(_start: int) -> Any:
    """A Trainer with ``fast_dev_run``, then the real one, with a sanity check."""
    plain(fast_dev_run=True).fit(Model(), loader(), loader(8))
    t, m = plain(num_sanity_val_steps=2), Model()
    t.fit(m, loader(), loader(8))
    return fitted(m, t)


@situation()
def same_trainer_fits_twice(_start: int) -> Any:
    t, m = plain(logger=False, max_epochs=1), Model()
    t.fit(m, loader())
    t.fit_loop.max_epochs = 3
    t.fit(m, loader())
    return fitted(m, t)


class _Named(Model):
    """Has hyperparameters called as arguments of functions that load, save and launch often are."""

    def __init__(self, load: int = 1, path: int = 1, original: int = 1) -> None:  # noqa: ARG002 - hyperparameters
        super().__init__()
        self.save_hyperparameters()


@situation(arms=ONCE)
def hyperparameters_of_any_name_are_given_to_what_loads(_start: int) -> Any:
    t, m = trainer(), _Named()
    t.fit(m, loader())
    t.save_checkpoint("named.ckpt")
    return dict(_Named.load_from_checkpoint("named.ckpt", load=2, path=3, original=4).hparams)
