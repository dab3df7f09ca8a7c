"""Patches of Lightning: each module patches one part of it, once that part is imported.

The only folder that names private parts of Lightning. `_autoload` says which of its modules is given to which function.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job import is_training_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Owner, name and original of what the function that patches now, in this thread, has replaced.
_replaced: ContextVar[list[tuple[Any, str, Any]] | None] = ContextVar("replaced", default=None)


@contextmanager
def all_or_none() -> Iterator[None]:
    """Undo the wraps of a body that fails: half a patch, as of a Lightning that lacks one of its places, is worse."""
    done: list[tuple[Any, str, Any]] = []
    token = _replaced.set(done)
    try:
        yield
    except BaseException:
        for owner, name, original in reversed(done):
            setattr(owner, name, original)
        raise
    finally:
        _replaced.reset(token)


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
        done = _replaced.get()
        owners = tuple(sys.modules.values()) if isinstance(owner, ModuleType) else ()
        for each in (owner, *owners):
            if each is owner or getattr(each, "__dict__", {}).get(name) is original:
                setattr(each, name, replacement)
                if done is not None:
                    done.append((each, name, original))

    return put
