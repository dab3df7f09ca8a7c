"""Learning rates for larger worlds (docs/learning-rate.md): two rules, and a callback that applies one with warm-up.

The callback multiplies all that is in the unit of a learning rate by a factor, also what schedulers keep (``base_lrs``,
``eta_min``, ...): every schedule of torch's is proportional to these. Warm-up is a factor that grows; a chain with
``LinearLR`` would not do, since schedulers that compute from the first rate overwrite it. The factor stands in the
optimizer, beside the rates that contain it, so nothing is scaled twice; and once more in the callback's state, since
some formats of checkpoints keep only the keys of a parameter group that they know.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_sagemaker.messages import log, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from pytorch_lightning import LightningModule, Trainer
    from torch.optim import Optimizer

__all__ = ["LearningRateScaling", "scale_learning_rate"]

Rule = Literal["linear", "sqrt"]

_RULES = {"linear": lambda ratio: ratio, "sqrt": math.sqrt}
_EPOCHS = 5  # of warm-up, as Goyal et al. chose it
_BY_HAND = "HINT: remove the callback, and give optimizer and scheduler the value of scale_learning_rate(...)."
_FACTOR = "lightning_sagemaker_factor"  # key in an optimizer's first parameter group

# What torch keeps in the unit of a learning rate. The rate itself, where it is a tensor, is changed in place, and last:
# torch before 2.5 lets the others be the very same tensor.
_IN_GROUPS = ("initial_lr", "max_lr", "min_lr", "swa_lr", "lr")
_IN_SCHEDULERS = ("base_lrs", "_last_lr", "eta_min", "max_lrs", "min_lrs", "default_min_lr", "eps")


def scale_learning_rate(lr: float, *, world_size: int, base_world_size: int = 1, rule: Rule = "linear") -> float:
    """Learning rate for ``world_size`` processes, from one that suits ``base_world_size`` processes.

    Each process keeps its batch size, so the batch of an optimizer step is ``world_size / base_world_size`` times as
    large.

    - ``"linear"``: ``lr * world_size / base_world_size``. For SGD, together with a warm-up: Goyal et al. 2017,
      https://arxiv.org/abs/1706.02677
    - ``"sqrt"``: ``lr * sqrt(world_size / base_world_size)``. Keeps the variance of a step's gradient noise: Krizhevsky
      2014, https://arxiv.org/abs/1404.5997; Hoffer et al. 2017, https://arxiv.org/abs/1705.08741. The usual choice with
      Adam and its relatives, which divide by the gradient's own size.

        >>> scale_learning_rate(0.1, world_size=8)
        0.8
        >>> scale_learning_rate(1e-3, world_size=16, base_world_size=4, rule="sqrt")
        0.002

    Args:
        lr: Learning rate, > 0.
        world_size: Number of processes that train together, >= 1.
        base_world_size: Number of processes that ``lr`` was chosen for, >= 1.
        rule: ``"linear"`` or ``"sqrt"``.

    Raises:
        TypeError: ``lr`` is not a number, or a world size not an integer.
        ValueError: A value is out of its range, or the rule is unknown.
    """
    if isinstance(lr, bool) or not isinstance(lr, Real):
        raise TypeError(f"lr={lr!r}; expected a number > 0. HINT: pass the learning rate of one process, such as 0.1.")
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(
            f"lr={lr!r}; expected a finite number > 0. HINT: pass the learning rate of one process, such as 0.1."
        )
    _check_integer("world_size", world_size, 1, "pass the number of processes, such as `trainer.world_size`.")
    _check_integer("base_world_size", base_world_size, 1, "pass the number of processes that the rate was chosen for.")
    if rule not in _RULES:
        raise ValueError(
            f'rule={rule!r}; expected "linear" or "sqrt". HINT: "linear" for SGD, "sqrt" for Adam and its relatives.'
        )
    return float(lr * _RULES[rule](world_size / base_world_size))


def _check_integer(name: str, value: object, least: int, hint: str) -> None:
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or value < least:  # type: ignore[operator]
        kind = ValueError if is_integer else TypeError
        raise kind(f"{name}={value!r}; expected an integer >= {least}. HINT: {hint}")


@dataclass(frozen=True)
class _Ramp:
    """The change of the factor from one value to another."""

    start: int = 0  # the Trainer's global step at its begin
    low: float = 1.0
    target: float = 1.0


class _Callback:
    """Placeholder for the base classes of the distributions."""


class LearningRateScaling(_Callback):
    """Callback that scales all learning rates to the number of processes, after a linear warm-up.

    At each step the learning rate is what your optimizer and your schedulers make it, times a factor, which grows in a
    straight line from 1 to that of :func:`scale_learning_rate` (Goyal et al. 2017, section 2.2, "gradual warmup"). It
    does nothing but say so where there is nothing to scale, and has no part in validation, test and prediction.

        >>> Trainer(callbacks=[LearningRateScaling()])  # doctest: +SKIP

    A training that is resumed goes on where it was. On another world size the factor goes on from the checkpoint's one:
    upwards with a new warm-up, downwards at once.

    Args:
        rule: ``"linear"``, or ``"sqrt"`` for Adam and its relatives.
        base_world_size: Number of processes that the learning rate in your code was chosen for.
        warmup_steps: Optimizer steps until the scaled rate is reached; 0 for none. ``None`` takes five epochs. A rate
            that becomes smaller needs no warm-up, and gets none.

    Raises:
        TypeError, ValueError: An argument is not what it should be. When training starts: the length of five epochs is
            not known, a parameter group has no learning rate, or a scheduler is not one of torch's kind.
    """

    def __init__(self, *, rule: Rule = "linear", base_world_size: int = 1, warmup_steps: int | None = None) -> None:
        _join_distributions()
        scale_learning_rate(1.0, world_size=1, base_world_size=base_world_size, rule=rule)  # checks them here and now
        if warmup_steps is not None:
            _check_integer("warmup_steps", warmup_steps, 0, "pass the optimizer steps of the warm-up, 0 for none.")
        self.rule: Rule = rule
        self.base_world_size = base_world_size
        self.warmup_steps = warmup_steps
        self._ramp = _Ramp()
        self._factor: float | None = None  # that this fit has set, or the one that its checkpoint was saved with
        self._length = 0  # of the warm-up, in the Trainer's global steps
        self._warming_up = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Forget the previous fit."""
        if stage == "fit":
            self._ramp, self._factor, self._warming_up = _Ramp(), None, False

    def state_dict(self) -> dict[str, Any]:
        """The factor in the saved learning rates, and its warm-up."""
        return {} if self._factor is None else {"factor": self._factor, "ramp": asdict(self._ramp)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the warm-up of a checkpoint."""
        self._factor, self._ramp = state_dict["factor"], _Ramp(**state_dict["ramp"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Scale, after everything has been restored from a checkpoint."""
        optimizers = _optimizers(trainer)
        if not optimizers:  # `configure_optimizers` may return None
            return
        _check(optimizers, _schedulers(trainer), loud=trainer.is_global_zero)
        if self._factor is not None:
            for optimizer in optimizers:  # the rates contain it already
                optimizer.param_groups[0][_FACTOR] = self._factor
        world_size = _replicas(trainer)
        target = scale_learning_rate(1.0, world_size=world_size, base_world_size=self.base_world_size, rule=self.rule)
        held, saved = _factor_in(optimizers[0]), self._ramp
        if saved.target != target:
            self._ramp = _Ramp(trainer.global_step, held, target)
        # Lightning's global step counts the steps of all optimizers.
        self._length = self._warmup(trainer) * len(optimizers) if self._ramp.low < target else 0
        if trainer.is_global_zero:
            self._report(trainer, held, world_size, saved)
        self._advance(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Continue the warm-up, so that the next batch, and monitors, see the right learning rate."""
        if self._warming_up:
            self._advance(trainer)

    def _advance(self, trainer: Trainer) -> None:
        ramp, steps = self._ramp, trainer.global_step - self._ramp.start
        self._warming_up = steps < self._length
        self._factor = ramp.target
        if self._warming_up:
            self._factor = ramp.low + (ramp.target - ramp.low) * (steps / self._length)
        _set_factor(_optimizers(trainer), _schedulers(trainer), self._factor)

    def _warmup(self, trainer: Trainer) -> int:
        """Steps of each optimizer until the scaled rate is reached."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        if math.isinf(steps_per_epoch := _steps_per_epoch(trainer)):
            raise ValueError(
                f"LearningRateScaling(warmup_steps=None) warms up for {_EPOCHS} epochs, but their number of optimizer"
                " steps is not known here: the optimization is manual, or the data has no length."
                " HINT: pass the number, such as warmup_steps=500, or 0 for no warm-up."
            )
        return int(_EPOCHS * steps_per_epoch)

    def _report(self, trainer: Trainer, held: float, world_size: int, saved: _Ramp) -> None:
        target, optimizers = self._ramp.target, _optimizers(trainer)
        before, after = _listed(optimizers, 1.0), _listed(optimizers, target / held)
        line = f"learning rate {before} stays" if held == target else f"learning rate {before} -> {after}"
        line += f" ({self.rule} rule, world size {world_size} over {self.base_world_size})"
        end = self._ramp.start + self._length
        last = min(
            _steps_per_epoch(trainer) * (math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs),
            math.inf if trainer.max_steps == -1 else trainer.max_steps,
        )
        if held != target:
            left = math.ceil((end - trainer.global_step) / len(optimizers))
            line += f", reached after {left} steps" if left > 0 else ", at once"
        if saved.target not in (1, target):
            line += f"; the checkpoint's training was scaled by {saved.target:.6g}, this one by {target:.6g}"
        if last < end:
            line += f"; but training ends before, at step {last} of {end}. HINT: pass a smaller warmup_steps."
            log.warning(line)
        else:
            say(line)


def _replicas(trainer: Trainer) -> int:
    """Number of processes with different data: all of them, except with tensor parallelism."""
    return int((trainer.distributed_sampler_kwargs or {}).get("num_replicas", trainer.world_size))


def _steps_per_epoch(trainer: Trainer) -> float:
    """Optimizer steps in an epoch; infinity if the data does not determine them."""
    if not trainer.lightning_module.automatic_optimization or math.isinf(trainer.num_training_batches):
        return math.inf
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _optimizers(trainer: Trainer) -> list[Optimizer]:
    return [optimizer for optimizer in trainer.optimizers if optimizer.param_groups]


def _schedulers(trainer: Trainer) -> list[Any]:
    found = [config.scheduler for config in trainer.lr_scheduler_configs]
    for scheduler in found:
        found += getattr(scheduler, "_schedulers", [])  # of `SequentialLR` and `ChainedScheduler`
    return found


def _join_distributions() -> None:
    """Make the class a subclass of ``Callback`` of each distribution that is imported: Trainers ask for their own."""
    for package in ("lightning.pytorch", "pytorch_lightning"):
        base = getattr(sys.modules.get(f"{package}.callbacks"), "Callback", None)
        if base is not None and not issubclass(LearningRateScaling, base):
            LearningRateScaling.__bases__ += (base,)


_join_distributions()  # `LightningCLI` asks before it makes an object


def _check(optimizers: Iterable[Optimizer], schedulers: Iterable[Any], *, loud: bool) -> None:
    for optimizer in optimizers:
        for index, group in enumerate(optimizer.param_groups):
            if not isinstance(group.get("lr"), (Real, Tensor)):
                raise TypeError(
                    f"Parameter group {index} of {type(optimizer).__name__} has lr={group.get('lr')!r}; expected a"
                    " number. HINT: LearningRateScaling cannot scale what an optimizer chooses itself: give it a rate,"
                    " or remove the callback."
                )
    for kind in dict.fromkeys(map(type, schedulers)):
        if not issubclass(kind, (LRScheduler, ReduceLROnPlateau)):
            raise TypeError(
                f"LearningRateScaling cannot scale {kind.__module__}.{kind.__qualname__}, which is no"
                f" torch.optim.lr_scheduler.LRScheduler and may set rates of its own. {_BY_HAND}"
            )
        if loud and not kind.__module__.startswith("torch.optim."):
            log.warning(
                "LearningRateScaling scales what %s.%s computes from the rates of its optimizer (`base_lrs`), but no"
                " learning rate of its own, if it has one. %s",
                *(kind.__module__, kind.__qualname__, _BY_HAND),
            )


def _factor_in(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0].get(_FACTOR, 1.0))


def _set_factor(optimizers: Iterable[Optimizer], schedulers: Iterable[Any], factor: float) -> None:
    """Multiply all learning rates so that they contain this factor, and no other one."""
    tensors: dict[int, tuple[Tensor, float]] = {}  # which parameter groups, and optimizers, may share
    for scheduler in schedulers:
        _multiply(vars(scheduler), _IN_SCHEDULERS, factor / _factor_in(scheduler.optimizer), tensors)
    for optimizer in optimizers:
        ratio = factor / _factor_in(optimizer)
        if ratio != 1:
            for group in optimizer.param_groups:
                _multiply(group, _IN_GROUPS, ratio, tensors)
            optimizer.param_groups[0][_FACTOR] = factor
    for tensor, ratio in tensors.values():
        tensor.mul_(ratio)


def _multiply(
    holder: MutableMapping[str, Any], names: Iterable[str], ratio: float, in_place: dict[int, tuple[Tensor, float]]
) -> None:
    if ratio == 1:  # an integer stays one
        return
    for name in names:
        value = holder.get(name)
        if name == "lr" and isinstance(value, Tensor):  # a captured graph knows this very tensor
            in_place[id(value)] = (value, ratio)
        elif isinstance(value, (list, tuple)):
            holder[name] = [one * ratio for one in value]
        elif value is not None:
            holder[name] = value * ratio


def _listed(optimizers: Iterable[Optimizer], ratio: float) -> str:
    """The learning rates at the start of schedules."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    return ", ".join(dict.fromkeys(f"{float(group.get('initial_lr', group['lr'])) * ratio:.6g}" for group in groups))
