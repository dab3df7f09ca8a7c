"""A lock for Lightning's ``setup()``. Imports no Lightning; what that protects itself is in ``docs/locking.md``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.locking.lock import DEFAULT_TIMEOUT, node_lock

if TYPE_CHECKING:
    from collections.abc import Callable

_inside: set[int] = set()  # ids of objects whose `setup` runs in this process


class SerialSetup:
    """Mixin for a ``LightningDataModule`` or ``LightningModule``: one process of a host at a time runs ``setup()``.

    Lightning calls ``setup()`` in all processes at once. With this, the first one builds what the others then find. It
    must not talk to other ranks (no ``barrier``, no ``all_reduce``): they are waiting to come in.

        >>> class Digits(SerialSetup, LightningDataModule): ...  # doctest: +SKIP

    Attributes:
        setup_timeout: Seconds to wait for the processes before.

    Raises:
        TimeoutError: From ``setup()``: others took longer; the message names the one inside.
    """

    setup_timeout: float = DEFAULT_TIMEOUT

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "setup" in vars(cls):
            cls.setup = _serial(vars(cls)["setup"])  # type: ignore[attr-defined]


def _serial(setup: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(setup)
    def one_at_a_time(self: Any, *args: Any, **kwargs: Any) -> None:
        if id(self) in _inside:  # a subclass's `setup` calls this one
            return setup(self, *args, **kwargs)
        with node_lock(f"setup of {type(self).__qualname__}", timeout=self.setup_timeout):
            _inside.add(id(self))
            try:
                return setup(self, *args, **kwargs)
            finally:
                _inside.discard(id(self))

    return one_at_a_time
