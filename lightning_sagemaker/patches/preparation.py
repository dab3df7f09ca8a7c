"""``prepare_data`` and the barrier without time limit around it (``_InfiniteBarrier``, since Lightning 2.3)."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from types import ModuleType


def patch_data_connector(module: ModuleType) -> None:
    """Let a failed ``prepare_data`` reach all processes of its host; inside SageMaker training jobs only.

    Args:
        module: ``*.trainer.connectors.data_connector`` of either distribution.
    """
    connector_class = module._DataConnector
    if not is_training_job(os.environ) or not first_time(connector_class):
        return
    from lightning_sagemaker.locking.lightning import guard_prepare_data

    guard_prepare_data(connector_class, has_barrier=hasattr(module, "_InfiniteBarrier"))


def patch_infinite_barrier(module: ModuleType) -> None:
    """Make Lightning's barrier without time limit report a failure, and need no second group on SMDDP.

    Args:
        module: ``*fabric.utilities.distributed`` of either distribution.
    """
    barrier_class = getattr(module, "_InfiniteBarrier", None)
    if barrier_class is None or not first_time(barrier_class):
        return
    enter, leave = barrier_class.__enter__, barrier_class.__exit__

    @functools.wraps(enter)
    def __enter__(barrier: Any) -> Any:  # noqa: N807
        import torch.distributed as dist

        barrier.store_barrier = None
        if not (dist.is_available() and dist.is_initialized() and dist.get_backend() == "smddp"):
            return enter(barrier)
        from lightning_sagemaker.smddp.waiting import StoreBarrier

        barrier.store_barrier = StoreBarrier()
        barrier.barrier = barrier.store_barrier.wait
        return barrier

    @functools.wraps(leave)
    def __exit__(barrier: Any, kind: Any, error: BaseException | None, trace: Any) -> Any:  # noqa: N807
        if error is not None and is_on("prepare_data"):
            from lightning_sagemaker.locking.lightning import tell_failure

            tell_failure(error)
        if barrier.store_barrier is None:
            return leave(barrier, kind, error, trace)
        return barrier.store_barrier.wait() if error is None else barrier.store_barrier.fail(error)

    barrier_class.__enter__, barrier_class.__exit__ = __enter__, __exit__
