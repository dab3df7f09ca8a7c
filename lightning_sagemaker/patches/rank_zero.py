"""The rank that ``rank_zero_only`` goes by before there is a Trainer: the job's, where the job knows it.

Lightning looks at ``RANK`` and ``LOCAL_RANK`` alone, so what a script does by it at its top (``wandb.init``, folders)
is done once on each host, or under mpirun by each rank.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.environment import is_started_by_rank
from lightning_sagemaker.job import SageMakerJob, is_training_job
from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from types import ModuleType

_before: dict[Any, int] = {}  # what Lightning found, by the function `rank_zero_only` that has another rank since then


def patch_rank_zero(module: ModuleType) -> None:
    """Tell ``rank_zero_only`` the job's rank.

    Args:
        module: ``*fabric.utilities.rank_zero`` of either distribution.
    """
    if not is_training_job(os.environ) or not first_time(module):
        return
    decorator = module.rank_zero_only
    with suppress(Exception):  # a job that cannot be read is told where a Trainer is made
        job = SageMakerJob.detect()
        if job is None or is_started_by_rank() or decorator.rank != 0 or module._get_rank() is not None:
            return
        # A host's own processes are still to be started: the first one has at least this rank.
        rank = job.node_rank if job.rank is None else job.rank
        if rank:
            _before[decorator] = decorator.rank
            decorator.rank = rank


def restore() -> None:
    """Let ``rank_zero_only`` go by what Lightning found, for a Trainer that is none of the job's."""
    while _before:
        decorator, rank = _before.popitem()
        decorator.rank = rank


def settle() -> None:
    """Leave ``rank_zero_only`` to the strategies: a Trainer of the job's is made."""
    _before.clear()
