"""Chooses what a job's description leaves out: launcher, image, variables, metrics."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from lightning_sagemaker.instances import instance
from lightning_sagemaker.settings import EXPORT, METRICS, RESUME
from lightning_sagemaker.smddp.names import sharding_of
from lightning_sagemaker.source_folder import read
from lightning_sagemaker.submit.images import NEWEST_VERSION, SMDDP_VERSION, has_mpi4py

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning_sagemaker.submit.training_job import Launcher, TrainingJob

_METRICS = 40  # metric definitions that a job may have (API reference, AlgorithmSpecification)


def complete(job: TrainingJob) -> TrainingJob:
    """The same job with the values that its description leaves out; AWS is not asked.

    The launcher is the one that the strategy needs, the image the newest that has what it needs; variables for EFA are
    set where several instances have it; a job that may be interrupted resumes. The user's variables come first.
    """
    launcher = job.launcher or _launcher(job)
    torch = job.torch or (SMDDP_VERSION if sharding_of(job.strategy) else NEWEST_VERSION)
    lacks_mpi4py = job.image is None and launcher in ("smddprun", "mpirun") and not has_mpi4py(torch)
    scripts = (job.folder / name for name in read(job.folder).files if name.endswith(".py"))
    logged = sorted({name for script in scripts for name in _logged_names(script)})
    names = dict.fromkeys(["epoch", "step", *job.metrics, *logged])  # in this order, each once
    return job.changed(
        launcher=launcher,
        torch=torch,
        requirements=(*job.requirements, *(["mpi4py"] if lacks_mpi4py else [])),
        env={**_variables(job), **job.env},
        retries=3 if job.spot and job.retries is None else job.retries,
        max_wait=2 * job.max_run if job.spot and job.max_wait is None else job.max_wait,
        name=job.name or re.sub(r"[^a-zA-Z0-9]+", "-", job.path.stem).strip("-")[:43].strip("-") or "training",
        metrics=tuple(names)[:_METRICS],
    )


def _launcher(job: TrainingJob) -> Launcher:
    """The launcher that suits a strategy.

    SMDDP's all-reduce runs under mpirun, its all-gather, which sharded strategies live on, under torchrun (AWS's
    documentation of SMDDP).
    """
    if sharding_of(job.strategy) == "replicated":
        return "smddprun"
    hosts = job.launched
    known = instance(hosts.instance_type)
    one_process = hosts.instance_count == 1 and known is not None and known.gpus == 1
    return "none" if one_process and job.processes_per_host is None else "torchrun"


def _variables(job: TrainingJob) -> dict[str, str]:
    variables = {METRICS: "1"}
    if job.strategy is not None:
        variables["PL_TRAINER_STRATEGY"] = job.strategy
    hosts = job.launched
    known = instance(hosts.instance_type)
    if hosts.instance_count > 1 and known is not None and known.efa:
        variables |= {"FI_PROVIDER": "efa", "RDMAV_FORK_SAFE": "1"}
        if known.rdma:
            variables["FI_EFA_USE_DEVICE_RDMA"] = "1"
    if job.spot:
        variables[RESUME] = "1"
    if job.export is not None:
        variables[EXPORT] = job.export
    return variables


def _logged_names(script: Path) -> Iterator[str]:
    """Names that a script gives to ``self.log("name", ...)`` or ``self.log_dict``, as far as they are constants."""
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):  # the checks name a script that does not parse
        return
    for call in ast.walk(tree):
        match call:
            case ast.Call(func=ast.Attribute(attr="log"), args=[name, *_]):
                keys: list[ast.expr | None] = [name]
            case ast.Call(func=ast.Attribute(attr="log_dict"), args=[ast.Dict(keys=keys), *_]):
                pass
            case _:
                continue
        both = {word.arg for word in call.keywords if getattr(word.value, "value", None) is True}
        for key in keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value
                if both >= {"on_step", "on_epoch"}:  # Lightning adds `_step` and `_epoch` to the name itself
                    yield f"{key.value}_epoch"
