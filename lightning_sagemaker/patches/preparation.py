"""``prepare_data`` and the barrier without time limit around it (``_InfiniteBarrier``, since Lightning 2.3)."""

from __future__ import annotations

import itertools
import os
import secrets
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.environment import SageMakerEnvironment, process_group
from lightning_sagemaker.messages import log
from lightning_sagemaker.patches import wrap

if TYPE_CHECKING:
    from pathlib import Path

_calls = itertools.count()  # all ranks call `prepare_data` equally often
_outcome: ContextVar[Path | None] = ContextVar("outcome of prepare_data", default=None)


def patch_data_connector(module: Any) -> None:
    """Let ``prepare_data`` tell all processes of the host that it failed; inside SageMaker training jobs only.

    Lightning runs the hook in one process per host (or one in all) and lets the others pass when it *ends*, so after an
    error they go on into ``setup()`` without their data and hang or fail later, elsewhere. Here they raise the error.
    Nothing is put on the user's objects: they pickle as ever while their hook runs.
    """
    has_barrier = hasattr(module, "_InfiniteBarrier")  # which calls `tell_failure` before the others pass it

    @wrap(module._DataConnector, "prepare_data")
    def guarded(prepare_data: Any, connector: Any) -> None:
        is_ours = isinstance(getattr(connector.trainer.strategy, "cluster_environment", None), SageMakerEnvironment)
        if not is_ours or process_group() is None:
            return prepare_data(connector)  # type: ignore[no-any-return]
        label = f"prepare_data, call {next(_calls) + 1},"
        try:
            path = _outcome_path(label)
        except Exception as error:  # noqa: BLE001 - a script that ran without this guard still does
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


def _outcome_path(label: str) -> Path:
    """File for the error, of this host and process group: several trainings of a job may run side by side."""
    from lightning_sagemaker.distributed.store import default_store, write_first
    from lightning_sagemaker.locking.directory import file_stem, lock_directory

    group = write_first(default_store(), "prepare_data", secrets.token_hex(8))
    return lock_directory() / f"{file_stem(f'{label} {group}')}.outcome"


def tell_failure(error: BaseException) -> None:
    """Tell the other processes of this host that a guarded ``prepare_data`` failed here."""
    path = _outcome.get()
    if path is not None:
        from lightning_sagemaker.locking.once import Outcome

        with suppress(OSError):
            Outcome.of(error).publish(path)


def _raise_failure_of_another(label: str, path: Path, error: Exception | None) -> None:
    from lightning_sagemaker.locking.once import Outcome

    outcome = Outcome.read(path)
    if outcome is not None and outcome.error is not None and outcome.who.pid != os.getpid():
        raise RuntimeError(outcome.explain(label)) from error


def patch_infinite_barrier(module: Any) -> None:
    """Make Lightning's barrier without time limit report a failure, and need no second group on SMDDP."""
    barrier_class = getattr(module, "_InfiniteBarrier", None)
    if barrier_class is None:
        return

    @wrap(barrier_class, "__enter__", always=True)
    def __enter__(enter: Any, barrier: Any) -> Any:  # noqa: N807
        barrier.store_barrier, group = None, process_group()
        if group is None or group.get_backend() != "smddp":
            return enter(barrier)
        from lightning_sagemaker.smddp.collectives import StoreBarrier

        barrier.store_barrier = StoreBarrier()
        barrier.barrier = barrier.store_barrier.wait
        return barrier

    @wrap(barrier_class, "__exit__", always=True)
    def __exit__(leave: Any, barrier: Any, kind: Any, error: BaseException | None, trace: Any) -> Any:  # noqa: N807
        if error is not None and is_on("prepare_data"):
            tell_failure(error)
        if barrier.store_barrier is None:
            return leave(barrier, kind, error, trace)
        return barrier.store_barrier.wait() if error is None else barrier.store_barrier.fail(error)
