"""What a job's description leaves out is chosen here: launcher, image, variables, requirements, metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker import metrics as metric_lines
from lightning_sagemaker.instances import instance
from lightning_sagemaker.settings import RESUME
from lightning_sagemaker.smddp.names import sharding_of
from lightning_sagemaker.submit.arguments import hyperparameters
from lightning_sagemaker.submit.description import NEWEST_VERSION, SMDDP_VERSION, JobDescription
from lightning_sagemaker.submit.source import logged_names, needed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_sagemaker.submit.description import SDK

_METRICS = 40  # metric definitions that a job may have (API reference, AlgorithmSpecification)


def describe(
    script: str | Path,
    *,
    instance_type: str,
    instance_count: int = 1,
    strategy: str | None = None,
    arguments: Sequence[str] = (),
    sdk: SDK = "v3",
    name: str | None = None,
    source_dir: str | Path | None = None,
    requirements: Sequence[str] = (),
    image: str | None = None,
    torch_version: str | None = None,
    launcher: str | None = None,
    processes_per_host: int | None = None,
    volume_gb: int = 100,
    role: str | None = None,
    environment: Mapping[str, str] | None = None,
    channels: Mapping[str, str] | None = None,
    sharded: Sequence[str] = (),
    checkpoint_s3_uri: str | None = None,
    output_s3_uri: str | None = None,
    subnets: Sequence[str] = (),
    security_group_ids: Sequence[str] = (),
    spot: bool = False,
    max_run: int = 86_400,
    max_wait: int | None = None,
    retries: int | None = None,
    metrics: Sequence[str] = (),
) -> JobDescription:
    """Describe a job; nothing is sent, and nothing is asked of AWS.

    What is left out is chosen: the launcher that the strategy needs, the newest image that has what it needs, EFA's
    variables where the instances have EFA, resuming from checkpoints where the job may be interrupted.

    Args:
        script: Training script.
        instance_type: For example ``ml.p4d.24xlarge``.
        instance_count: Number of hosts.
        strategy: Strategy of Lightning; it becomes ``PL_TRAINER_STRATEGY``, so the script's own comes first.
        arguments: The script's command line.
        sdk: ``v3`` or ``v2``.
        name: Beginning of the job's name; by default the script's.
        source_dir: Folder to send; by default the script's.
        requirements: Further lines of the job's requirements; a local wheel is sent along.
        image: URI of an image, instead of AWS's.
        torch_version: Of AWS's PyTorch training image; by default the newest that has what the strategy needs.
        launcher: ``torchrun``, ``smddprun``, ``mpirun`` or ``none``; by default what the strategy needs.
        processes_per_host: By default one for each GPU.
        volume_gb: Storage of each host, GB.
        role: Execution role, ARN or name; by default the SDK's.
        environment: Variables of the job; they come before those that are chosen.
        channels: S3 URI of each input channel.
        sharded: Names of the channels that are ``ShardedByS3Key``: each host gets a part of the files.
        checkpoint_s3_uri: Where ``/opt/ml/checkpoints`` is kept.
        output_s3_uri: Where model and output go.
        subnets: Of a VPC.
        security_group_ids: Of a VPC.
        spot: Managed spot instances; a restarted job continues from its newest checkpoint.
        max_run: Limit of the training time, s.
        max_wait: Limit of training and waiting together on spot instances, s; by default twice ``max_run``.
        retries: Restarts after faults of the service; 3 on spot instances.
        metrics: Names of logged metrics for the job page, besides those that the scripts' ``self.log("name")`` tell.

    Raises:
        FileNotFoundError: There is no such script.
        ValueError: An argument is malformed, or the combination cannot run.
    """
    path, folder = _paths(script, source_dir)
    chosen = _chosen_launcher(launcher, strategy, instance_type, instance_count)
    if chosen == "mpirun" and sdk == "v3":
        processes_per_host = processes_per_host or _gpus(instance_type)
    if spot:
        retries = 3 if retries is None else retries
        max_wait = max_wait or 2 * max_run
    version = torch_version or (SMDDP_VERSION if sharding_of(strategy) else NEWEST_VERSION)
    further = [*requirements, *_mpi4py(chosen, version, image)]
    names = dict.fromkeys(["epoch", "step", *metrics, *logged_names(folder)])  # in this order, each once
    return JobDescription(
        name=name or re.sub(r"[^a-zA-Z0-9]+", "-", path.stem).strip("-") or "training",
        sdk=sdk,
        script=path.as_posix(),
        source_dir=folder,
        hyperparameters=hyperparameters(arguments, sdk),
        requirements=tuple(needed(folder, further)),
        wheels=tuple(line for line in requirements if line.endswith(".whl")),
        image=image,
        torch_version=version,
        launcher=chosen,
        processes_per_host=processes_per_host,
        instance_type=instance_type,
        instance_count=instance_count,
        volume_gb=volume_gb,
        role=role,
        environment={**_environment(strategy, instance_type, instance_count, spot=spot), **(environment or {})},
        channels=dict(channels or {}),
        sharded=tuple(sharded),
        checkpoint_s3_uri=checkpoint_s3_uri,
        output_s3_uri=output_s3_uri,
        subnets=tuple(subnets),
        security_group_ids=tuple(security_group_ids),
        spot=spot,
        max_run=max_run,
        max_wait=max_wait,
        retries=retries,
        metrics={metric: metric_lines.pattern(metric) for metric in list(names)[:_METRICS]},
    )


def _paths(script: str | Path, source_dir: str | Path | None) -> tuple[Path, Path]:
    """Script, relative to the source folder, and that folder."""
    path = Path(script)
    if not path.is_file():
        raise FileNotFoundError(f"There is no script {str(path)!r}. HINT: give the path of the training script.")
    folder = Path(source_dir) if source_dir is not None else path.parent
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"The script {str(path)!r} does not lie in the source folder {str(folder)!r}. HINT: --source-dir names the"
            " folder that is sent to the job."
        )
    return path.resolve().relative_to(folder.resolve()), folder


def _gpus(instance_type: str) -> int:
    """GPUs of a host: SDK v3's driver gives mpirun the processes of one host only, so it is told how many there are."""
    known = instance(instance_type)
    if known is None:
        raise ValueError(
            f"The number of GPUs of {instance_type!r} is not known here, and SDK v3's mpirun needs the number of all"
            " processes. HINT: --processes-per-host."
        )
    return known.gpus


def _chosen_launcher(launcher: str | None, strategy: str | None, instance_type: str, instance_count: int) -> str:
    """The launcher under which a strategy is worth something.

    SMDDP's all-reduce runs under mpirun, its all-gather, which sharded strategies live on, under torchrun (AWS's
    documentation of SMDDP).
    """
    known = instance(instance_type)
    one_process = instance_count == 1 and known is not None and known.gpus == 1
    if launcher is None and sharding_of(strategy) == "replicated":
        launcher = "smddprun"
    return launcher or ("none" if one_process else "torchrun")


def _mpi4py(launcher: str, torch_version: str, image: str | None) -> list[str]:
    """``mpi4py``, with which both MPI launchers start Python, where AWS's image lacks it: with CUDA since 2.11."""
    found = re.match(r"(\d+)\.(\d+)", torch_version)
    lacks = found is not None and (int(found[1]), int(found[2])) >= (2, 11)
    return ["mpi4py"] if image is None and launcher in ("smddprun", "mpirun") and lacks else []


def _environment(strategy: str | None, instance_type: str, instance_count: int, *, spot: bool) -> dict[str, str]:
    variables = {metric_lines.VARIABLE: "1"}
    if strategy is not None:
        variables["PL_TRAINER_STRATEGY"] = strategy
    known = instance(instance_type)
    if instance_count > 1 and known is not None and known.efa:
        variables |= {"FI_PROVIDER": "efa", "RDMAV_FORK_SAFE": "1"}
        if known.rdma:
            variables["FI_EFA_USE_DEVICE_RDMA"] = "1"
    if spot:
        variables[RESUME] = "1"
    return variables
