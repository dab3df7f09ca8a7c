"""Patches of Lightning: each module patches one part of it, once that part is imported.

The only folder that names private parts of Lightning. `_autoload` says which of its modules is given to which function.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


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
