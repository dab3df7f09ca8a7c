"""Callbacks and modules of the user's: what they see, and what may be done to them."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import redirect_stdout
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    Callback,
    LambdaCallback,
    ModelCheckpoint,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger

from tests.beside_stock.model import Model, fitted, loader, trainer, weights
from tests.beside_stock.registry import ANY, WITH_RESUME, situation


@situation()
def list_of_callbacks(_start: int) -> Any:
    t = trainer(enable_checkpointing=True, callbacks=[Timer(), LambdaCallback()])
    return {
        "callbacks": [type(callback).__name__ for callback in vars(t)["callbacks"]],
        "first": t.checkpoint_callback is not None,
    }


@situation(allowed={"progress_bar": {"by itself": ["TQDMProgressBar", False]}})
def progress_bars(_start: int) -> Any:
    """The bar that a Trainer makes by itself, also where the script looks for it, and bars that a script asks for."""

    def fit(**arguments: Any) -> Any:
        t = trainer(**({"enable_progress_bar": None} | arguments))
        with redirect_stdout(io.StringIO()) as drawn:
            t.fit(Model(), loader())
        bar = t.progress_bar_callback
        return [type(bar).__name__, "it/s" in drawn.getvalue()]

    return {
        "by itself": fit(),
        "asked for": fit(enable_progress_bar=True),
        "a callback": fit(enable_progress_bar=True, callbacks=[TQDMProgressBar(leave=True)]),
        "refused": fit(enable_progress_bar=False),
    }


class Counts(Callback):
    """Has a state."""

    def __init__(self, name: str) -> None:
        self.name, self.count, self.loaded = name, 0, -1

    @property
    def state_key(self) -> str:
        return f"Counts {self.name}"

    def on_train_batch_end(self, *_: Any) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict["count"]


@situation()
def states_of_callbacks(_start: int) -> Any:
    first = [Counts("a"), Counts("b")]
    t = trainer(callbacks=first)
    t.fit(Model(), loader())
    t.save_checkpoint("model.ckpt")
    again = [Counts("a"), Counts("b")]
    trainer(callbacks=again, max_epochs=3).fit(Model(), loader(), ckpt_path="model.ckpt")
    keys = sorted(torch.load("model.ckpt", weights_only=False)["callbacks"])
    return {"keys": keys, "states": [[callback.count, callback.loaded] for callback in (*first, *again)]}


_HOOKS = [name for name in dir(Callback) if name.startswith("on_") or name in ("setup", "teardown")]


def _recorder() -> Any:
    seen: list[str] = []
    hooks = {name: (lambda *_a, name=name, **_k: seen.append(name)) for name in _HOOKS}
    callback = type("Recorder", (Callback,), hooks)()
    callback.seen = seen
    return callback


@situation("two")
def order_of_all_hooks(_start: int) -> Any:
    callback = _recorder()
    t, m = trainer(callbacks=[callback], max_epochs=1, limit_train_batches=2), Model()
    t.fit(m, loader(), loader(8))
    for function in (t.validate, t.test, t.predict):
        function(m, loader(8))
    return callback.seen


class Copies(Counts):
    """Copies all that it can get hold of."""

    found: ClassVar[dict[str, Any]] = {}

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        buffer = io.BytesIO()
        torch.save(pl_module, buffer)
        buffer.seek(0)
        others = [callback for callback in trainer.callbacks if type(callback).__name__ != "MetricLines"]
        self.found["saved"] = weights(torch.load(buffer, weights_only=False)) == weights(pl_module)
        self.found["copied"] = weights(copy.deepcopy(pl_module)) == weights(pl_module)
        self.found["callbacks copied"] = [type(callback).__name__ for callback in copy.deepcopy(others)]
        self.found["callbacks pickled"] = len(pickle.loads(pickle.dumps(trainer.callbacks))) > 0


@situation()
def pickled_and_copied_in_hooks(_start: int) -> Any:
    """``torch.save(module)``, ``deepcopy``, ``pickle`` in the middle of a training (pytorch-lightning#17124, #7567)."""
    t, m = trainer(callbacks=[Copies("c"), Counts("d")], max_epochs=1, enable_checkpointing=True), Model()
    t.fit(m, loader())
    return Copies.found | {
        "module after": weights(pickle.loads(pickle.dumps(m))) == weights(m),
        "trainer after": type(pickle.loads(pickle.dumps(t))).__name__,
    }


class Writer(BasePredictionWriter):
    """One file for each rank."""

    def write_on_epoch_end(self, trainer: Any, pl_module: Any, predictions: Any, batch_indices: Any) -> None:
        del pl_module
        torch.save([predictions, batch_indices], f"predictions-{trainer.global_rank}.pt")


@situation("two")
def predictions_by_a_writer(_start: int) -> Any:
    t = trainer(callbacks=[Writer("epoch")])
    t.predict(Model(), loader(16), return_predictions=False)
    t.strategy.barrier()
    files = [torch.load(f"predictions-{rank}.pt", weights_only=False) for rank in range(t.world_size)]
    return [[[batch.tolist() for batch in predictions], indices] for predictions, indices in files]


@situation("two")
def stopped_by_a_callback(_start: int) -> Any:
    class Stops(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= 3

    t, m = trainer(callbacks=[Stops()]), Model()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two")
def exception_in_a_hook_is_caught_by_the_script(_start: int) -> Any:
    """On all ranks; the next training is complete."""
    seen = []

    class Fails(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                raise ArithmeticError("no")

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            del trainer, pl_module
            seen.append(repr(exception))

        def teardown(self, *_: Any) -> None:
            seen.append("teardown")

    t = trainer(callbacks=[Fails()])
    try:
        t.fit(Model(), loader())
    except ArithmeticError as error:
        seen.append(str(error))
    again, m = trainer(), Model()
    again.fit(m, loader())
    return fitted(m, again) | {"seen": seen, "status": str(t.state.status)}


class _BareLogger(CSVLogger):
    """One that knows no version: Lightning asks for it where it chooses the folder of checkpoints itself."""

    @property
    def version(self) -> Any:
        raise NotImplementedError

    @property
    def log_dir(self) -> str:
        return "bare"


@situation(arms=WITH_RESUME, allowed={"resume": {"files in*": ANY, "content of*": ANY}})
def logger_without_a_version(_start: int) -> Any:
    t = trainer(
        enable_checkpointing=True, logger=_BareLogger("logs"), callbacks=[ModelCheckpoint("mine", monitor="train")]
    )
    m = Model()
    t.fit(m, loader())
    return fitted(m, t)
