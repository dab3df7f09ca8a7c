"""Where this package meets Lightning: each module patches one part of it, once that part is imported.

The only folder that names private parts of Lightning. `_autoload` says which of its modules is given to which function.
"""

from __future__ import annotations

from typing import Any


def first_time(owner: Any, what: str = "patched") -> bool:  # noqa: ANN401 - a class, module or object of Lightning
    """Whether this is asked for the first time; the owner is marked, so that it is patched once.

    Args:
        owner: What is patched.
        what: What for, where an owner is patched in several places.
    """
    mark = f"_lightning_sagemaker_{what}"
    if mark in vars(owner):
        return False
    setattr(owner, mark, True)
    return True
