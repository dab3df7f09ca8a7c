"""Whether the SMDDP library is installed, whether this process can use it, and the policy where it cannot.

The library is a part of some PyTorch training images only, the last of them PyTorch 2.5.1 (deep-learning-containers);
it is not on PyPI. Its import may fail with any exception: since 2.3.0 it checks the instance type while it is imported.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from lightning_sagemaker.job import SageMakerJob, own_job
from lightning_sagemaker.messages import warn_once
from lightning_sagemaker.settings import ON_MISSING, word

if TYPE_CHECKING:
    from collections.abc import MutableMapping

BACKEND = "smddp"
INSTANCE_TYPES = ("ml.p4d.24xlarge", "ml.p4de.24xlarge")  # what current versions support; p3 types are deprecated
OPTIMIZE_ALL_GATHER = "SMDATAPARALLEL_OPTIMIZE_SDP"
_PACKAGE = "smdistributed"
_MODULE = "smdistributed.dataparallel.torch.torch_smddp"  # importing it registers the backend

Sharding = Literal["replicated", "sharded"]
OnMissing = Literal["native", "error"]


class StrategyAlias(NamedTuple):
    """The meaning of a strategy's name."""

    sharding: Sharding
    options: dict[str, Any]
    description: str


# As Lightning's registries and ``PL_TRAINER_STRATEGY`` know them.
STRATEGIES = {
    "smddp": StrategyAlias("replicated", {}, "DDP over AWS's SMDDP collectives"),
    **{
        f"smddp_find_unused_parameters_{find}".lower(): StrategyAlias(
            "replicated",
            {"find_unused_parameters": find},
            f"DDP over AWS's SMDDP collectives with `find_unused_parameters={find}`",
        )
        for find in (True, False)
    },
    "smddp_fsdp": StrategyAlias("sharded", {}, "FSDP over AWS's SMDDP collectives"),
}


def sharding_of(strategy: str | None) -> Sharding | None:
    """The SMDDP collective that a strategy uses; ``None`` if it uses none."""
    named = STRATEGIES.get(strategy or "")
    return None if named is None else named.sharding


@dataclass(frozen=True)
class Availability:
    """What a process knows about the library."""

    version: str | None = None  # version of the library, ``None`` where it could not be imported
    problem: str | None = None  # why it cannot be used, in words; ``None`` where it can
    cause: BaseException | None = None  # the exception that its import raised


@functools.cache
def availability() -> Availability:
    """Import the library, if it is installed; the result is cached for this process."""
    try:
        found = importlib.util.find_spec(_PACKAGE) is not None
    except (ImportError, ValueError):  # a half-removed package
        found = False
    if not found:
        return Availability(
            problem="the SMDDP library (`smdistributed.dataparallel`) is not installed; it is a part of AWS's PyTorch"
            " training images up to 2.5.1 only"
        )
    try:
        importlib.import_module(_MODULE)
    except Exception as error:  # noqa: BLE001 - whatever the closed library raises, the policy decides
        return Availability(problem=f"importing `{_MODULE}` raised {type(error).__name__}: {error}", cause=error)
    package = importlib.import_module("smdistributed.dataparallel")
    return Availability(version=str(getattr(package, "__version__", "unknown")))


def request_all_gather(job: SageMakerJob | None, environ: MutableMapping[str, str]) -> None:
    """Switch on SMDDP's AllGather, which sharded training needs and mpirun launchers leave off.

    Must come before :func:`availability`: the library reads the variable when it is imported.
    """
    if job is not None and job.launcher == "mpirun":
        environ.setdefault(OPTIMIZE_ALL_GATHER, "true")


def advice(job: SageMakerJob | None, sharding: Sharding, environ: MutableMapping[str, str]) -> list[str]:
    """Warnings about a working SMDDP in this job.

    Launcher and collective are coupled (AWS, data-parallel-modify-sdp): under mpirun SMDDP serves AllReduce, under
    torchrun AllGather; the other one falls back to NCCL.
    """
    lines: list[str] = []
    if job is None:
        return lines
    if job.launcher == "torchrun" and sharding == "replicated":
        lines.append(
            "SMDDP's AllReduce works under mpirun launchers only; under torchrun it falls back to NCCL. HINT: use"
            ' distribution={"smdistributed": {"dataparallel": {"enabled": True}}}, or strategy="smddp_fsdp", whose'
            " AllGather SMDDP serves under torchrun."
        )
    if job.launcher == "mpirun" and sharding == "sharded" and environ.get(OPTIMIZE_ALL_GATHER, "").lower() != "true":
        lines.append(
            f"SMDDP's AllGather is off: {OPTIMIZE_ALL_GATHER}={environ.get(OPTIMIZE_ALL_GATHER)!r}. HINT: remove it"
            " from the job's environment: it is set to 'true' for sharded strategies under mpirun."
        )
    if job.instance_type and job.instance_type not in INSTANCE_TYPES:
        lines.append(f"SMDDP supports {', '.join(INSTANCE_TYPES)}; this host is {job.instance_type}.")
    if job.num_nodes == 1:
        lines.append("SMDDP gains nothing on a single host (AWS's FAQ): NCCL is at least as fast there.")
    return lines


def choose_backend(sharding: Sharding, on_missing: OnMissing | None = None) -> str | None:
    """Choose SMDDP or the native backend, and log warnings on rank zero.

    ``None`` is the backend that Lightning chooses for the device.
    """
    policy = word(ON_MISSING) if on_missing is None else on_missing
    if policy not in get_args(OnMissing):
        raise ValueError(
            f"on_missing={policy!r}; expected one of {get_args(OnMissing)}. HINT: 'native' is the default."
        )
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

    is_rank_zero = getattr(rank_zero_only, "rank", 0) == 0 if job is None else job.is_rank_zero
    if is_rank_zero:
        warn_once(line)
