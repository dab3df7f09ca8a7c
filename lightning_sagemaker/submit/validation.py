"""Validation of a job's description, before anything is read or AWS is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.script import check

if TYPE_CHECKING:
    from lightning_sagemaker.submit.training_job import TrainingJob

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,42}")  # a time follows; 63 characters in all
_S3 = re.compile(r"s3://[^/]+(/.*)?")
_COUNTS = ("instance_count", "processes_per_host", "volume_gb", "max_run", "max_wait", "retries")


def validate(job: TrainingJob) -> None:
    """Refuse a job that cannot run: `FileNotFoundError` for a script or wheel that is not there, else `ValueError`."""
    check(job, job.env, job.channels)
    _check_requirements(job)
    _check_machines(job)
    _check_launcher(job)
    _check_numbers(job)
    _check_names(job)
    _check_places(job)


def _check_requirements(job: TrainingJob) -> None:
    if absent := [line for line in job.requirements if line.endswith(".whl") and not Path(line).is_file()]:
        raise FileNotFoundError(f"There is no wheel {absent[0]!r}. HINT: build it first.")
    if broken := [line for line in job.requirements if "\n" in line or "\r" in line]:
        raise ValueError(f"`requirements` has {broken[0]!r}, with a line break. HINT: --requirement for each line.")


def _check_machines(job: TrainingJob) -> None:
    if (job.instance_type is None) == (not job.instance_groups):
        what = "neither an instance type nor instance groups" if not job.instance_groups else "both of them"
        raise ValueError(f"The job has {what}. HINT: --instance-type ml.p4d.24xlarge.")
    if job.instance_groups and job.instance_count != 1:
        raise ValueError(
            f"`instance_count` is {job.instance_count}, but instance groups have counts of their own. HINT:"
            " --instance-group NAME=TYPE:COUNT."
        )
    for name, group in job.groups.items():
        kind = group.instance_type
        if not re.fullmatch(r"ml\.[a-z0-9\-]+\.[a-z0-9]+", kind):
            raise ValueError(
                f"Instance type {kind!r}; expected one such as 'ml.p4d.24xlarge'. HINT: SageMaker's types begin with"
                " 'ml.'."
            )
        if name and group.instance_count < 1:
            raise ValueError(
                f"Instance group {name!r} has {group.instance_count} instances; expected 1 or more. HINT:"
                f" --instance-group {name}={kind}:1."
            )


def _check_launcher(job: TrainingJob) -> None:
    if job.launcher not in (None, *MODES):
        raise ValueError(
            f"Launcher {job.launcher!r}; expected one of {', '.join(MODES)}. HINT: leave it out for the one that"
            " the strategy needs."
        )
    if job.launcher == "none" and job.processes_per_host is not None:
        raise ValueError(
            f"`processes_per_host` is {job.processes_per_host}, but without a launcher SageMaker starts one process on"
            " each host, and Lightning one for each device. HINT: Trainer(devices=...), or --launcher torchrun."
        )
    if job.image is None and job.torch is not None and not re.fullmatch(r"\d+(\.\d+){1,2}", job.torch):
        raise ValueError(f"Version of torch {job.torch!r}; expected one such as 2.13. HINT: --torch, or leave it out.")


def _check_numbers(job: TrainingJob) -> None:
    for name in _COUNTS:
        number = getattr(job, name)
        if number is not None and number < 1:
            raise ValueError(
                f"`{name}` is {number}; expected a whole number of 1 or more. HINT: --{name.replace('_', '-')} 1."
            )
    if job.max_wait is not None and not (job.spot and job.max_wait >= job.max_run):
        raise ValueError(
            f"`max_wait` is {job.max_wait} s; expected at least `max_run`, {job.max_run} s, which it includes, and spot"
            " instances. HINT: --spot, or leave it out."
        )


def _check_names(job: TrainingJob) -> None:
    if job.name is not None and not _NAME.fullmatch(job.name):
        raise ValueError(f"Name {job.name!r}; expected at most 43 letters, digits and dashes. HINT: --name.")
    if job.network_isolation and "code" in job.channels:
        raise ValueError(
            "A channel is named 'code', as the one that brings the source where the network is isolated. HINT: another"
            " name."
        )


def _check_places(job: TrainingJob) -> None:
    uris = filter(None, (job.checkpoint_uri, job.output_uri, *(channel.uri for channel in job.inputs.values())))
    if wrong := [uri for uri in uris if not _S3.fullmatch(uri)]:
        raise ValueError(
            f"{wrong[0]!r} is not an S3 URI; expected s3://bucket/prefix. HINT: --channel, --checkpoint-uri and"
            " --output-uri take places in S3, no local folders."
        )
