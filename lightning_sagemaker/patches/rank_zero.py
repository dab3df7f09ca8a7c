"""The rank for ``rank_zero_only`` before a Trainer is made: the job's, if it is known.

Lightning looks at ``RANK`` and ``LOCAL_RANK`` alone, so what a script does by it at its top (``wandb.init``, folders)
is done once on each host, or under mpirun by each rank.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from lightning_sagemaker.environment import is_started_by_rank
from lightning_sagemaker.job import SageMakerJob, is_training_job

_before: dict[Any, int] = {}  # what Lightning found, by the function `rank_zero_only` that has another rank since then


def patch_rank_zero(module: Any) -> None:
    """Tell ``rank_zero_only`` the job's rank."""
    if not is_training_job(os.environ):
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
    """Let ``rank_zero_only`` use Lightning's rank, for a Trainer outside the job's world."""
    while _before:
        decorator, rank = _before.popitem()
        decorator.rank = rank


def leave_to_strategies() -> None:
    """Leave ``rank_zero_only`` to the strategies: a Trainer in the job's world is made."""
    _before.clear()
