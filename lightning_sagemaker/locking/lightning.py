"""Locks for Lightning's hooks that have no guard of their own. Imports no Lightning, and serves both distributions.

Which moments Lightning protects itself is in ``docs/locking.md``.
"""

from __future__ import annotations

import functools
import itertools
import os
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.environment import SageMakerEnvironment
from lightning_sagemaker.locking.directory import lock_directory
from lightning_sagemaker.locking.identity import file_stem
from lightning_sagemaker.locking.lock import DEFAULT_TIMEOUT, node_lock
from lightning_sagemaker.locking.outcome import Outcome
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_calls = itertools.count()  # all ranks call `prepare_data` equally often
_outcome: ContextVar[Path | None] = ContextVar("outcome of prepare_data", default=None)
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


def guard_prepare_data(connector_class: type[Any], *, has_barrier: bool) -> None:
    """Let Lightning's ``prepare_data`` step tell all processes of the host that it failed, in SageMaker jobs.

    Lightning runs the hook in one process per host (or one in all) and lets the others pass when it *ends*, so after an
    error they go on into ``setup()`` without their data and hang or fail later, elsewhere. Here they raise the error.
    Nothing is put on the user's objects: they pickle as ever while their hook runs.

    Args:
        connector_class: Lightning's class with a method ``prepare_data`` and an attribute ``trainer``.
        has_barrier: Whether Lightning makes the others wait by a barrier, which calls :func:`tell_failure` (since 2.3).
    """
    prepare_data = connector_class.prepare_data

    @functools.wraps(prepare_data)
    def guarded(connector: Any) -> None:
        if not isinstance(getattr(connector.trainer.strategy, "cluster_environment", None), SageMakerEnvironment):
            return prepare_data(connector)  # type: ignore[no-any-return]
        label = f"prepare_data, call {next(_calls) + 1},"
        try:
            path = lock_directory() / f"{file_stem(label)}.outcome"
        except (OSError, RuntimeError, ValueError) as error:  # a script that ran without this guard still does
            log.warning("prepare_data runs without the guard of lightning-sagemaker. %s", error)
            return prepare_data(connector)  # type: ignore[no-any-return]
        token = _outcome.set(path)
        try:
            prepare_data(connector)
        except Exception as error:  # maybe only that the failed process is gone
            if not has_barrier:
                tell_failure(error)
            _raise_failure_of_another(label, path, error)
            raise
        finally:
            _outcome.reset(token)
        _raise_failure_of_another(label, path, None)
        return None

    connector_class.prepare_data = guarded


def tell_failure(error: BaseException) -> None:
    """Tell the other processes of this host that the hook failed here; before they pass Lightning's barrier.

    Args:
        error: What the hook raised. Outside of a guarded ``prepare_data`` nobody is told.
    """
    path = _outcome.get()
    if path is not None:
        with suppress(OSError):
            Outcome.of(error).publish(path)


def _raise_failure_of_another(label: str, path: Path, error: Exception | None) -> None:
    outcome = Outcome.read(path)
    if outcome is not None and outcome.error is not None and outcome.who.pid != os.getpid():
        raise RuntimeError(outcome.explain(label)) from error
