"""Patches of Lightning: each module patches one part of it, once that part is imported.

The only folder that names private parts of Lightning. `_autoload` says which of its modules is given to which function.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job import is_training_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_replaced: list[tuple[Any, str, Any]] = []  # owner, name, original: by the functions that patch now


@contextmanager
def all_or_none() -> Iterator[None]:
    """Undo the wraps of a body that fails: half a patch, as of a Lightning that lacks one of its places, is worse."""
    start = len(_replaced)
    try:
        yield
    except BaseException:
        for owner, name, original in reversed(_replaced[start:]):
            setattr(owner, name, original)
        raise
    finally:
        del _replaced[start:]


def wrap(owner: Any, name: str, *, always: bool = False) -> Callable[[Callable[..., Any]], None]:
    """Decorator: ``ours(original, *args)`` takes the place of a function or method, in training jobs or always.

    A module of ours wraps it once, however often it is told to. A function is replaced in its module and in those that
    imported it before this package.
    """

    def put(ours: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        mark = f"_{ours.__module__}"
        if hasattr(original, mark) or not (always or is_training_job(os.environ)):
            return
        replacement = functools.wraps(original)(lambda *args, **kwargs: ours(original, *args, **kwargs))
        setattr(replacement, mark, True)
        owners = tuple(sys.modules.values()) if isinstance(owner, ModuleType) else ()
        for each in (owner, *owners):
            if each is owner or getattr(each, "__dict__", {}).get(name) is original:
                setattr(each, name, replacement)
                _replaced.append((each, name, original))

    return put
