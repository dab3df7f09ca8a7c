"""Chooses what a job's description leaves out: launcher, AWS's PyTorch training image, variables, metrics."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from lightning_sagemaker.instances import instance
from lightning_sagemaker.settings import EXPORT, METRICS, RESUME
from lightning_sagemaker.smddp.availability import sharding_of
from lightning_sagemaker.source_folder import read
from lightning_sagemaker.submit.request import as_sent
from lightning_sagemaker.submit.training_job import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning_sagemaker.source_folder import Source
    from lightning_sagemaker.submit.training_job import Launcher, TrainingJob

_METRICS = 40  # metric definitions that a job may have (API reference, AlgorithmSpecification)
SMDDP_VERSION = "2.5.1"  # the last image with SMDDP
# Versions of torch, newest first, and `repository:tag` for instances with and without GPUs. From
# aws/deep-learning-containers, docs/src/data, branch main, 21 August 2026: what is published for SageMaker. The tables
# of the SageMaker SDKs end earlier: v2's with 2.8.0, v3's with 2.10.0.
_TAGS = {
    "2.13.0": ("pytorch:2.13-{}-amzn2023-sagemaker", "cu133"),
    "2.12.1": ("pytorch:2.12-{}-amzn2023-sagemaker", "cu130"),
    "2.11.0": ("pytorch:2.11-{}-amzn2023-sagemaker", "cu130"),
    "2.10.0": ("pytorch-training:2.10.0-{}-py313", "gpu"),
    **{version: (f"pytorch-training:{version}-{{}}-py312", "gpu") for version in ("2.9.0", "2.8.0", "2.7.1", "2.6.0")},
    **{version: (f"pytorch-training:{version}-{{}}-py311", "gpu") for version in ("2.5.1", "2.4.0", "2.3.0")},
    **{version: (f"pytorch-training:{version}-{{}}-py310", "gpu") for version in ("2.2.0", "2.1.0")},
}
_NEWEST_VERSION = next(iter(_TAGS))


def complete(job: TrainingJob, source: Source | None = None) -> TrainingJob:
    """The same job with the values that its description leaves out; AWS is not asked.

    The launcher is the one that the strategy needs, the image the newest that has what it needs; variables for EFA are
    set where several instances have it; a job that may be interrupted resumes. The user's variables come first, and
    what ``set`` puts into the request is in the job's own fields too.

    Args:
        job: The job.
        source: What of its folder is sent, where that was read already.
    """
    job = as_sent(job)
    launcher = job.launcher or _launcher(job)
    torch = job.torch or (SMDDP_VERSION if sharding_of(job.strategy) else _NEWEST_VERSION)
    # With mpi4py both MPI launchers of the toolkit start Python; images for CUDA since 2.11 lack it (their `uv.lock`).
    lacks_mpi4py = job.image is None and launcher in ("smddprun", "mpirun") and _numbers(torch) >= (2, 11)
    scripts = (job.folder / name for name in (source or read(job.folder)).files if name.endswith(".py"))
    logged = sorted({name for script in scripts for name in _logged_names(script)})
    names = dict.fromkeys(["epoch", "step", *job.metrics, *logged])  # in this order, each once
    return job.changed(
        launcher=launcher,
        torch=torch,
        requirements=(*job.requirements, *(["mpi4py"] if lacks_mpi4py else [])),
        env={**_variables(job), **job.env},
        retries=3 if job.spot and job.retries is None else job.retries,
        max_wait=2 * job.max_run if job.spot and job.max_wait is None else job.max_wait,
        name=job.name
        or re.sub(r"[^a-zA-Z0-9]+", "-", job.path.stem).strip("-")[:LONGEST_NAME].strip("-")
        or "training",
        metrics=tuple(names)[:_METRICS],
    )


def full_version(torch: str) -> str:
    """A version as the table writes it: ``2.13`` is ``2.13.0``."""
    for version in _TAGS:
        if torch in (version, version.rpartition(".")[0]):
            return version
    raise ValueError(
        f"AWS publishes no PyTorch training image {torch!r}, as of August 2026; there are"
        f" {', '.join(_TAGS)}. HINT: --torch with one of these, or --image with a URI."
    )


def repository_and_tag(torch: str, instance_type: str) -> str:
    """``repository:tag`` of the image for a version of torch and an instance type."""
    if re.match(r"ml\.(trn|inf)\d", instance_type):
        raise ValueError(
            f"The image for {instance_type} is none of AWS's for CPUs and GPUs. HINT: --image with one for Neuron."
        )
    place, gpu = _TAGS[full_version(torch)]
    with_gpu = re.match(r"ml\.[gp][a-z]*\d", instance_type) is not None  # families of EC2 with NVIDIA GPUs
    return place.format(gpu if with_gpu else "cpu")


def has_smddp(torch: str) -> bool:
    """Whether an image for GPUs has SMDDP."""
    return _numbers(torch) <= _numbers(SMDDP_VERSION)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


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
    hosts = job.launched
    known = instance(hosts.instance_type) if hosts.instance_count > 1 else None  # one host has no use for EFA
    variables = {
        METRICS: "1",
        "PL_TRAINER_STRATEGY": job.strategy,
        "FI_PROVIDER": "efa" if known and known.efa else None,
        "RDMAV_FORK_SAFE": "1" if known and known.efa else None,
        "FI_EFA_USE_DEVICE_RDMA": "1" if known and known.rdma else None,
        RESUME: "1" if job.spot else None,
        EXPORT: job.export,
    }
    return {name: value for name, value in variables.items() if value is not None}


def _logged_names(script: Path) -> Iterator[str]:
    """Names that a script gives to ``self.log("name", ...)`` or ``self.log_dict``, as far as they are constants."""
    try:
        tree = ast.parse(script.read_bytes())
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
