"""Patches of Lightning: each module patches one part of it, once that part is imported.

The only folder that names private parts of Lightning. `_autoload` says which of its modules is given to which function.
"""

from __future__ import annotations

import functools
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job import is_training_job

if TYPE_CHECKING:
    from collections.abc import Callable


def wrap(owner: Any, name: str, *, always: bool = False) -> Callable[[Callable[..., Any]], None]:
    """Decorator: ``ours(original, *args)`` takes the place of a function or method, in training jobs or always.

    A module of ours wraps it once, however often it is told to.
    """

    def put(ours: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        mark = f"_{ours.__module__}"
        if hasattr(original, mark) or not (always or is_training_job(os.environ)):
            return
        replacement = functools.wraps(original)(lambda *args, **kwargs: ours(original, *args, **kwargs))
        setattr(replacement, mark, True)
        if isinstance(owner, ModuleType):
            replace_everywhere(original, replacement)
        else:
            setattr(owner, name, replacement)

    return put


def first_time(owner: Any, what: str = "patched") -> bool:
    """Whether the owner is not patched yet; marks it, so that it is patched once."""
    mark = f"_lightning_sagemaker_{what}"
    if mark in vars(owner):
        return False
    setattr(owner, mark, True)
    return True


def replace_everywhere(function: Callable[..., Any], replacement: Callable[..., Any]) -> None:
    """Replace a function, in its module and in those that imported it before this package."""
    name = function.__name__
    for module in tuple(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name) is function:
            setattr(module, name, replacement)
