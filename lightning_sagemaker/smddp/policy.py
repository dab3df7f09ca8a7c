"""The policy for a missing SMDDP, in one place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, cast, get_args

from lightning_sagemaker.job import SageMakerJob, own_job
from lightning_sagemaker.messages import warn_once
from lightning_sagemaker.settings import ON_MISSING, word
from lightning_sagemaker.smddp.availability import (
    BACKEND,
    OPTIMIZE_ALL_GATHER,
    Sharding,
    advice,
    availability,
    request_all_gather,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

OnMissing = Literal["native", "error"]


def choose_backend(sharding: Sharding, on_missing: OnMissing | None = None) -> str | None:
    """Choose SMDDP or the native backend, and log warnings on rank zero.

    ``None`` is the backend that Lightning chooses for the device.
    """
    policy = read_policy(on_missing, os.environ)
    job = own_job()
    if sharding == "sharded":
        request_all_gather(job, os.environ)
    found = availability()
    problem = found.problem or launcher_problem(job)
    if problem is None:
        for line in advice(job, sharding, os.environ):
            _say(line, job)
        return BACKEND
    if policy == "error":
        raise RuntimeError(
            f"SMDDP cannot be used, and on_missing is 'error': {problem}. HINT: choose an image and an instance type"
            " that have SMDDP, or let on_missing be 'native' to train with NCCL."
        ) from found.cause
    _say(
        f"SMDDP IS NOT USED: {problem}. Training uses NCCL (GPU) or gloo (CPU) instead, with the same results."
        f" HINT: to make this an error, set on_missing='error' or {ON_MISSING}=error.",
        job,
    )
    return None


def advise_on_sync_batchnorm() -> None:
    """Warn about SyncBatchNorm with SMDDP: torch gathers its statistics with all_gather_into_tensor.

    SMDDP answers that with ``SMDDP does not support: _allgather_base`` under mpirun (deep-learning-containers#4119),
    unless its AllGather is on.
    """
    job = own_job()
    if job is not None and job.launcher == "mpirun" and os.environ.get(OPTIMIZE_ALL_GATHER, "").lower() != "true":
        _say(
            "sync_batchnorm=True needs an all_gather that SMDDP refuses under mpirun, with 'SMDDP does not support:"
            f" _allgather_base'. HINT: set {OPTIMIZE_ALL_GATHER}=true in the job's environment, or leave sync_batchnorm"
            " out.",
            job,
        )


def read_policy(on_missing: OnMissing | None, environ: Mapping[str, str]) -> OnMissing:
    """What to do if SMDDP cannot be used: the argument, else the variable, else ``"native"``."""
    value = word(ON_MISSING, environ) if on_missing is None else on_missing
    if value not in get_args(OnMissing):
        raise ValueError(f"on_missing={value!r}; expected one of {get_args(OnMissing)}. HINT: 'native' is the default.")
    return cast("OnMissing", value)


def launcher_problem(job: SageMakerJob | None) -> str | None:
    """Why SMDDP cannot be used in this job, wherever the library is; ``None`` if it can."""
    if job is None:
        return "this process is in no SageMaker training job"
    if job.launcher in ("mpirun", "torchrun"):
        return None
    return (
        "SMDDP works under mpirun and torchrun only, and this job was started by neither; choose"
        ' distribution={"smdistributed": {"dataparallel": {"enabled": True}}} (mpirun) or'
        ' {"torch_distributed": {"enabled": True}} (torchrun)'
    )


def _say(line: str, job: SageMakerJob | None) -> None:
    from lightning_utilities.core.rank_zero import rank_zero_only

    rank_zero = job.is_rank_zero if job is not None else getattr(rank_zero_only, "rank", 0) == 0
    if rank_zero:
        warn_once(line)
