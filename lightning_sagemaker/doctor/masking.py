"""Redaction of reports: only listed variables have their values printed, and no text contains a secret."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_sagemaker.redaction import is_credential, redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_sagemaker.doctor.report import Report, Section, Value

_RELATED = re.compile(
    r"""
      (FI | GLOO | LT | NCCL | OMPI_COMM_WORLD | PL | SMDATAPARALLEL | TORCHELASTIC | TORCH_NCCL)_\w+
    | (GROUP_ | LOCAL_ | NODE_ | ROLE_)? RANK | (GROUP_ | LOCAL_ | ROLE_)? WORLD_SIZE | MASTER_(ADDR|PORT)
    | CUDA_VISIBLE_DEVICES | NVIDIA_VISIBLE_DEVICES | OMP_NUM_THREADS | RDMAV_FORK_SAFE | SLURM_NTASKS
    | TORCH_DEVICE_BACKEND_AUTOLOAD | CURRENT_HOST | TRAINING_JOB_NAME | SAGEMAKER_(BASE_DIR|INSTANCE_TYPE|JOB_NAME)
    | SM_(CURRENT_HOST|CURRENT_HOST_RANK|CURRENT_INSTANCE_GROUP|CURRENT_INSTANCE_TYPE|DISTRIBUTION_INSTANCE_GROUPS)
    | SM_(DLC_TORCH_VERSION|HOSTS|HOST_COUNT|IS_HETERO|MASTER_ADDR|MASTER_PORT|NETWORK_INTERFACE_NAME)
    | SM_NUM_(CPUS|GPUS|NEURONS)
    """,
    re.VERBOSE,
)


def related(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that may be printed with their values: those that launchers, Lightning, NCCL and libfabric read."""
    return {name: environ[name] for name in sorted(environ) if _RELATED.fullmatch(name) and not is_credential(name)}


def masked(report: Report, environ: Mapping[str, str]) -> Report:
    """The report without secrets.

    Args:
        report: The report, whose texts may quote errors of others.
        environ: The variables; what those with a credential's name hold is looked for in every text.
    """
    text = functools.partial(redact, environ=environ)

    def anything(value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(map(text, value))
        return text(value) if isinstance(value, str) else value

    def section(each: Section) -> Section:
        return replace(
            each, facts=tuple(replace(fact, value=anything(fact.value), why=text(fact.why)) for fact in each.facts)
        )

    return replace(
        report,
        findings=tuple(replace(each, what=text(each.what), fix=text(each.fix)) for each in report.findings),
        sections=tuple(map(section, report.sections)),
    )
