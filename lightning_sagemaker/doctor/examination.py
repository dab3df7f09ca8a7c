"""Makes the report from variables, files and facts about the machine. Pure, and never raises."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.doctor.checks import CHECKS
from lightning_sagemaker.doctor.report import Report, Section, Value
from lightning_sagemaker.doctor.sections import SECTIONS
from lightning_sagemaker.doctor.situation import Situation
from lightning_sagemaker.findings import LEVELS, Finding, fail, ok
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_sagemaker.doctor.machine import Machine


def examine(environ: Mapping[str, str], base: Path, machine: Machine) -> Report:
    """Report on a process.

    Args:
        environ: Its variables.
        base: Folder in which SageMaker keeps the job's input and output, ``/opt/ml`` on SageMaker.
        machine: What was probed on its machine.

    Returns:
        The report, worst findings first, without secrets.
    """
    # Before anything quotes a value, perhaps half of it; and again where texts quote errors of others.
    presentable = {name: redact(value) for name, value in environ.items()}
    masked = functools.partial(_masked, environ=environ)
    situation = Situation.of(presentable, base, machine)
    findings: list[Finding] = []
    sections: list[Section] = []
    for key, (title, look) in SECTIONS.items():
        try:
            facts = tuple(replace(fact, value=masked(fact.value), why=masked(fact.why)) for fact in look(situation))
        except Exception as error:  # noqa: BLE001 - what cannot be said must not hide the rest
            facts = ()
            findings.append(_stumbled(title, error))
        sections.append(Section(key, title, facts))
    for check in CHECKS:
        try:
            findings += check(situation)
        except Exception as error:  # noqa: BLE001, PERF203
            findings.append(_stumbled(check.__name__, error))
    if all(finding.level == "ok" for finding in findings):
        findings.append(ok("healthy", "nothing wrong was found."))
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Report(tuple(replace(one, what=masked(one.what), fix=masked(one.fix)) for one in findings), tuple(sections))


def _stumbled(where: str, error: Exception) -> Finding:
    return fail(
        "doctor-stumbled",
        f"the doctor could not examine {where}: {type(error).__name__}: {error}",
        "HINT: a variable or file has an unexpected value; please report it with this page.",
    )


def _masked(value: Value, environ: Mapping[str, str]) -> Any:
    """A value without secrets, among them what variables hold whose names suggest one."""
    if isinstance(value, tuple):
        return tuple(redact(text, environ) for text in value)
    return redact(value, environ) if isinstance(value, str) else value
