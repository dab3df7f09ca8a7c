"""The rules: the learning rate for a different world size."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Literal

Rule = Literal["linear", "sqrt"]

_RULES = {"linear": lambda ratio: ratio, "sqrt": math.sqrt}


def scale_learning_rate(
    lr: float,
    *,
    world_size: int,
    base_world_size: int = 1,
    rule: Rule = "linear",
) -> float:
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
    check_integer("world_size", world_size, 1, "pass the number of processes, such as `trainer.world_size`.")
    check_integer("base_world_size", base_world_size, 1, "pass the number of processes that the rate was chosen for.")
    if rule not in _RULES:
        raise ValueError(
            f'rule={rule!r}; expected "linear" or "sqrt". HINT: "linear" for SGD, "sqrt" for Adam and its relatives.'
        )
    return float(lr * _RULES[rule](world_size / base_world_size))


def check_integer(name: str, value: object, least: int, hint: str) -> None:
    """Check an argument."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}; expected an integer >= {least}. HINT: {hint}")
    if value < least:
        raise ValueError(f"{name}={value!r}; expected an integer >= {least}. HINT: {hint}")
