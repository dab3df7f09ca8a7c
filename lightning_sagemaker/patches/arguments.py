"""The explicit arguments of a Trainer: later, a default cannot be told from a choice."""

from __future__ import annotations

import os
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.checkpoint.export import asked_for
from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import wrap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

_NONE: Mapping[str, Any] = MappingProxyType({})
_given: ContextVar[Mapping[str, Any]] = ContextVar("arguments of the Trainer that is being made", default=_NONE)


def patch_trainer(module: ModuleType) -> None:
    """Record the explicit arguments while a Trainer is made."""

    @wrap(module.Trainer, "__init__", always=True)
    def __init__(initialize: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if is_training_job(os.environ) and is_on("export"):
            asked_for()  # a bad value is an error here, and not when the training is over
        token = _given.set(kwargs)
        try:
            initialize(trainer, *args, **kwargs)
        finally:
            _given.reset(token)


def given() -> Mapping[str, Any]:
    """Arguments of the Trainer that is being made, by name; empty for Fabric."""
    return _given.get()
