"""The explicit arguments of a Trainer: later, a default cannot be told from a choice."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

_NONE: Mapping[str, Any] = MappingProxyType({})
_given: ContextVar[Mapping[str, Any]] = ContextVar("arguments of the Trainer that is being made", default=_NONE)


def patch_trainer(module: ModuleType) -> None:
    """Record the explicit arguments while a Trainer is made."""
    trainer_class = module.Trainer
    if not first_time(trainer_class):
        return
    initialize = trainer_class.__init__

    @functools.wraps(initialize)
    def __init__(trainer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        token = _given.set(kwargs)
        try:
            initialize(trainer, *args, **kwargs)
        finally:
            _given.reset(token)

    trainer_class.__init__ = __init__


def given() -> Mapping[str, Any]:
    """Arguments of the Trainer that is being made, by name; empty for Fabric."""
    return _given.get()
