"""The locks in Lightning: what its own hooks leave open. Imports nothing of Lightning, and serves both distributions.

Which moments Lightning protects itself is in ``docs/locking.md``.
"""

from __future__ import annotations

import functools
import itertools
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import processes
from lightning_sagemaker.environment import SageMakerEnvironment
from lightning_sagemaker.locking.directory import lock_directory
from lightning_sagemaker.locking.identity import Who, file_stem
from lightning_sagemaker.locking.node import DEFAULT_TIMEOUT, node_lock
from lightning_sagemaker.locking.once import explain
from lightning_sagemaker.locking.outcome import Failure, Outcome, Publication
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_calls = itertools.count()  # all ranks call `prepare_data` equally often
_INSIDE = "_lightning_sagemaker_inside_setup"


class SerialSetup:
    """Mixin for a ``LightningDataModule`` or ``LightningModule``: one process of a host at a time is in ``setup()``.

    Lightning calls ``setup()`` in all processes at once. With this, the first one builds what the others then find. It
    must not talk to other ranks (no ``barrier``, no ``all_reduce``): they are waiting to come in.

        >>> class Digits(SerialSetup, LightningDataModule): ...  # doctest: +SKIP

    Attributes:
        setup_timeout: Seconds to wait for the processes before.

    Raises:
        TimeoutError: From ``setup()``: others took longer; the message names the one inside.
    """

    setup_timeout: float = DEFAULT_TIMEOUT

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        if "setup" in vars(cls):
            cls.setup = _serial(vars(cls)["setup"])  # type: ignore[attr-defined]


def _serial(setup: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(setup)
    def one_at_a_time(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if _INSIDE in vars(self):  # a subclass's `setup` calls this one
            return setup(self, *args, **kwargs)
        with node_lock(f"setup of {type(self).__qualname__}", timeout=self.setup_timeout):
            setattr(self, _INSIDE, True)
            try:
                return setup(self, *args, **kwargs)
            finally:
                delattr(self, _INSIDE)

    return one_at_a_time


def guard_prepare_data(connector_class: type[Any]) -> None:
    """Let Lightning's ``prepare_data`` step tell all processes of the host that it failed, in SageMaker jobs.

    Lightning runs the hook in one process per host (or one in all) and lets the others pass when it *ends*, so after an
    error they go on into ``setup()`` without their data and hang or fail later, elsewhere. Here they raise the error.
    The hook itself runs under ``node_lock``, which costs nothing where Lightning has let one process in.

    Args:
        connector_class: Lightning's class with a method ``prepare_data`` and an attribute ``trainer``.
    """
    prepare_data = connector_class.prepare_data

    @functools.wraps(prepare_data)
    def guarded(connector: Any) -> None:  # noqa: ANN401
        trainer = connector.trainer
        if not isinstance(getattr(trainer.strategy, "cluster_environment", None), SageMakerEnvironment):
            return prepare_data(connector)  # type: ignore[no-any-return]
        label = f"prepare_data, call {next(_calls) + 1},"
        try:
            path = lock_directory() / f"{file_stem(label)}.outcome"
        except OSError as error:  # nobody has asked for this guard, so a script that ran without it still does
            log.warning("prepare_data runs without the guard of lightning-sagemaker. %s", error)
            return prepare_data(connector)  # type: ignore[no-any-return]
        with ExitStack() as stack:
            for owner in (trainer.datamodule, trainer.lightning_module):
                if owner is not None:
                    stack.enter_context(_guarded_hook(owner, path))
            try:
                prepare_data(connector)
            except Exception as error:  # maybe only that the failed process is gone
                _raise_failure_of_another(label, path, error)
                raise
        _raise_failure_of_another(label, path, None)
        return None

    connector_class.prepare_data = guarded


def _raise_failure_of_another(label: str, path: Path, error: Exception | None) -> None:
    outcome = Outcome.read(path)
    if outcome is not None and outcome.concerns_me and outcome.who.pid != os.getpid():
        raise RuntimeError(explain(label, outcome)) from error


@contextmanager
def _guarded_hook(owner: Any, path: Path) -> Iterator[None]:  # noqa: ANN401
    """Replace the hook of one object for a while."""
    attributes = vars(owner)
    before = {"prepare_data": attributes["prepare_data"]} if "prepare_data" in attributes else {}
    prepare_data = owner.prepare_data

    @functools.wraps(prepare_data)  # by which Lightning still sees whether the user overrides it
    def guarded() -> Any:  # noqa: ANN401
        with node_lock("prepare_data"):
            try:
                return prepare_data()
            except BaseException as error:
                with suppress(OSError), Publication(path) as publication:  # before Lightning lets the others pass
                    publication.publish(Outcome(Who.me(), processes.clock(), Failure.of(error)))
                raise

    attributes["prepare_data"] = guarded
    try:
        yield
    finally:
        del attributes["prepare_data"]
        attributes.update(before)
