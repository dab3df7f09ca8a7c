"""The learning rates in optimizers and schedulers, and their multiplication by one factor.

It is everything in the unit of one, also what schedulers keep (``base_lrs``, ``eta_min``, ...). Every schedule of
torch's is proportional to these: it stays what it is, times the factor, whether it computes the next rate from the
first one or from the last one.

The factor stands in the optimizer, beside the rates that contain it, so nothing is scaled twice.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from torch.optim import Optimizer

_BY_HAND = "HINT: remove the callback, and give optimizer and scheduler the value of scale_learning_rate(...)."
_FACTOR = "lightning_sagemaker_factor"  # key in an optimizer's first parameter group

# What torch keeps in the unit of a learning rate; the rate itself comes last, since torch before 2.5 lets the others be
# the very same tensor, and it alone is changed in place.
_IN_GROUPS = ("initial_lr", "max_lr", "min_lr", "swa_lr", "lr")
_IN_SCHEDULERS = ("base_lrs", "_last_lr", "eta_min", "max_lrs", "min_lrs", "default_min_lr", "eps")


def check(optimizers: Iterable[Optimizer], schedulers: Iterable[Any], *, loud: bool) -> None:
    """Check that all rates can be multiplied."""
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


def factor_in(optimizer: Optimizer) -> float:
    """The current factor in the learning rates of an optimizer and its schedulers."""
    return float(optimizer.param_groups[0].get(_FACTOR, 1.0))


def note_factor(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Record the factor that the learning rates already contain."""
    for optimizer in optimizers:
        optimizer.param_groups[0][_FACTOR] = factor


def set_factor(optimizers: Iterable[Optimizer], schedulers: Iterable[Any], factor: float) -> None:
    """Multiply all learning rates so that they contain this factor, and no other one."""
    for scheduler in schedulers:
        _multiply(vars(scheduler), _IN_SCHEDULERS, factor / factor_in(scheduler.optimizer))
    for optimizer in optimizers:
        ratio = factor / factor_in(optimizer)
        if ratio != 1:
            for group in optimizer.param_groups:
                _multiply(group, _IN_GROUPS, ratio)
            note_factor([optimizer], factor)


def _multiply(holder: MutableMapping[str, Any], names: Iterable[str], ratio: float) -> None:
    if ratio == 1:  # an integer stays one
        return
    for name in names:
        value = holder.get(name)
        if name == "lr" and isinstance(value, Tensor):  # a captured graph knows this very tensor
            value.mul_(ratio)
        elif isinstance(value, (list, tuple)):
            holder[name] = [one * ratio for one in value]
        elif value is not None:
            holder[name] = value * ratio


def listed(optimizers: Iterable[Optimizer], ratio: float) -> str:
    """The unscaled learning rates at the start of schedules."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    return ", ".join(dict.fromkeys(f"{float(group.get('initial_lr', group['lr'])) * ratio:.6g}" for group in groups))
