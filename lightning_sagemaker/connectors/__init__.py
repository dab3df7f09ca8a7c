"""Where this package meets Lightning: each module patches one part of it, once that part is imported.

The only folder that names private parts of Lightning. `_autoload` says which of its modules is given to which function.
"""

from __future__ import annotations

from typing import Any

_PATCHED = "_lightning_sagemaker_patched"


def first_time(owner: Any) -> bool:  # noqa: ANN401 - a class or an object of Lightning
    """Whether this class or object is seen here for the first time; it is marked, so that it is patched once."""
    if _PATCHED in vars(owner):
        return False
    setattr(owner, _PATCHED, True)
    return True
