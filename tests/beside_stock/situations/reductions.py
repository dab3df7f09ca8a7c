"""Metrics logged with ``sync_dist=True`` on Lightning's own strategies, and on what scripts make of them.

FSDP's is not here: torch shards no module without an accelerator (tests/metrics, tests/gpu).
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import strategies
from torch import Tensor

from tests.beside_stock.model import Model, fitted, loader, logged, trainer
from tests.beside_stock.registry import situation

ARMS = ("plugin", "off")


class Logs(Model):
    """Logs values of every kind, with reductions by hand between them."""

    def __init__(self) -> None:
        super().__init__()
        self.by_hand: list[Any] = []
        self.group: Any = None

    def training_step(self, batch: list[Tensor], index: int) -> Any:
        loss = self.loss(batch)
        value = loss.detach() / 3 + (self.global_rank + 1) / 7
        for how in ("mean", "sum", "min", "max"):
            self.log(f"step {how}", value, sync_dist=True, reduce_fx=how, sync_dist_group=self.group)
            self.log(f"both {how}", value, sync_dist=True, reduce_fx=how, on_step=True, on_epoch=True)
            self.log(f"epoch {how}", value, sync_dist=True, reduce_fx=how, on_step=False, on_epoch=True)
        self.by_hand.append(self.trainer.strategy.reduce(value.clone(), reduce_op="sum").item())
        kinds: dict[str, Any] = {
            "integer": index + self.global_rank,
            "bool": torch.tensor(self.global_rank == 0),
            "double": value.double() / 3,
            "half": value.half(),
            "one number": value.reshape(1),
            "part of a vector": torch.stack([value, value + 1])[1],
        }
        self.trainer.strategy.barrier()
        for kind, found in kinds.items():
            self.log(kind, found, sync_dist=True, on_step=True)
        self.log("graph", loss, sync_dist=True, enable_graph=True)
        self.log("rank zero's", value, sync_dist=True, rank_zero_only=True)
        return loss


def _logged(strategy: Any, model: Model | None = None) -> Any:
    t, m = trainer(strategy=strategy, log_every_n_steps=1), model or Logs()
    t.fit(m, loader(), loader(8))
    found = fitted(m, t) | {"by hand": getattr(m, "by_hand", None), "logged": logged(t.logged_metrics)}
    return found | {"validated": t.validate(m, loader(8), verbose=False)}


@situation("two", arms=ARMS)
def every_value_logged_with_ddp(_start: int) -> Any:
    return _logged("ddp_find_unused_parameters_true")


if torch.__version__ >= "2.6":  # has `fully_shard`, and the strategy since Lightning 2.4

    class Sharded(Logs):
        """Shards itself as ``ModelParallelStrategy`` asks for."""

        def configure_model(self) -> None:
            from torch.distributed import fsdp  # noqa: PLC0415 - with torch's compiler, which no other situation needs

            if not isinstance(self.net, fsdp.FSDPModule):
                fsdp.fully_shard(self.net, mesh=self.device_mesh["data_parallel"])  # type: ignore[index]

    @situation("two", arms=ARMS, nightly=True)
    def every_value_logged_with_model_parallel(_start: int) -> Any:
        t, m = trainer(strategy=strategies.ModelParallelStrategy(), log_every_n_steps=1), Sharded()
        t.fit(m, loader(), loader(8))
        return fitted(m, t) | {"by hand": m.by_hand}  # a validation leaves all weights on each rank


@situation("two", arms=ARMS, nightly=True)
def logged_by_a_strategy_that_reduces_in_its_own_way(_start: int) -> Any:
    """A subclass that calculates with what it gets, and one that only has another name."""

    class Doubles(strategies.DDPStrategy):
        def reduce(self, tensor: Tensor, group: Any = None, reduce_op: Any = "mean") -> Tensor:
            reduced: Tensor = super().reduce(tensor, group, reduce_op)
            return reduced * 2 if reduced.is_floating_point() else reduced  # decisions are integers

    class Named(strategies.DDPStrategy):
        pass

    return {kind.__name__: _logged(kind()) for kind in (Doubles, Named)}


@situation("two", arms=ARMS, nightly=True)
def logged_where_the_script_replaces_reduce(_start: int) -> Any:
    """On the instance; then on the class."""
    t, m = trainer(log_every_n_steps=1), Logs()
    strategy: Any = t.strategy
    reduce, of_class = strategy.reduce, strategies.DDPStrategy.reduce
    strategy.reduce = lambda *args, **kwargs: reduce(*args, **kwargs) + 1
    t.fit(m, loader())
    found = [logged(t.callback_metrics) | {"by hand": m.by_hand}]
    strategies.DDPStrategy.reduce = lambda *args, **kwargs: of_class(*args, **kwargs) - 1  # type: ignore[method-assign]
    return [*found, _logged("ddp")]


@situation("two", arms=ARMS, nightly=True)
def logged_over_a_group(_start: int) -> Any:
    """Of all ranks in two fits of one Trainer, of both, and of each alone."""
    t, m = trainer(), Logs()
    t.fit(m, loader())
    t.fit_loop.max_epochs = 4
    t.fit(m, loader())
    found: list[Any] = [fitted(m, t)]
    alone = [dist.new_group([rank]) for rank in range(2)]
    for group in (dist.new_group([0, 1]), alone[t.global_rank]):
        m = Logs()
        m.group = group
        t = trainer()
        t.fit(m, loader())
        found.append(logged(t.callback_metrics) | {"by hand": m.by_hand})
    return found


@situation("two", arms=ARMS)
def an_error_after_logging(_start: int) -> Any:
    """A script handles the error, looks at the metrics and goes on with the same Trainer."""

    class Fails(Logs):
        fails = True

        def on_train_batch_end(self, *_: Any) -> None:
            self.log("last", self.net.weight.detach()[0, 0] + self.global_rank, sync_dist=True)
            if self.fails and self.trainer.global_step == 2:
                raise ArithmeticError

    t, m = trainer(), Fails()
    try:
        t.fit(m, loader())
    except ArithmeticError:
        t.state.stage = "train"  # type: ignore[assignment] # as in `on_exception`
    found = logged(t.callback_metrics)
    m.fails = False
    t = trainer()
    t.fit(m, loader())
    return [found, fitted(m, t)]


class Copies(Model):
    """Copies what it has logged, as callbacks and debuggers do, and the Trainer with it."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[Any] = []

    def training_step(self, batch: list[Tensor], index: int) -> Any:  # noqa: ARG002 - Lightning's
        loss = self.loss(batch)
        self.log("loss", loss, sync_dist=True, on_step=True, on_epoch=True)
        results = self.trainer.fit_loop.epoch_loop._results
        copied: Any
        for copied in (copy.deepcopy(results), pickle.loads(pickle.dumps(results)), copy.deepcopy(self.trainer)):
            collection = copied if copied.__class__ is results.__class__ else copied.fit_loop.epoch_loop._results
            self.copied.append(float(collection.metrics(on_step=True)["log"]["loss_step"]))
        return loss


@situation("two", arms=ARMS)
def what_was_logged_is_copied_and_pickled(_start: int) -> Any:
    t, m = trainer(max_epochs=1), Copies()
    t.fit(m, loader())
    return fitted(m, t) | {"copied": m.copied}
