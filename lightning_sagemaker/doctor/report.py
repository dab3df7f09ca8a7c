"""The report, of variables, files and facts about the machine: sections and findings, as Markdown or JSON."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.doctor.checks import CHECKS
from lightning_sagemaker.doctor.sections import SECTIONS, Fact, Value
from lightning_sagemaker.doctor.situation import Situation
from lightning_sagemaker.findings import LEVELS, Finding, fail, ok
from lightning_sagemaker.options import one_line
from lightning_sagemaker.redaction import is_credential, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lightning_sagemaker.doctor.situation import Machine

_LONGEST = 600  # characters of a value that are shown in Markdown


@dataclass(frozen=True)
class Report:
    """What was found in one process."""

    findings: tuple[Finding, ...]
    sections: dict[str, tuple[str, tuple[Fact, ...]]]  # title and facts, by a stable key

    @property
    def exit_code(self) -> int:
        """1 if a finding has the level ``fail``, otherwise 0."""
        return int(any(each.level == "fail" for each in self.findings))

    def as_json(self) -> dict[str, Any]:
        """The report as JSON types; the keys are listed in docs/doctor.md."""
        return {
            "schema": 1,
            "ok": self.exit_code == 0,
            "findings": [vars(each) for each in self.findings],
            "sections": {
                key: {fact.name: {"value": fact.value, "why": fact.why} for fact in facts}
                for key, (_, facts) in self.sections.items()
            },
        }

    def as_markdown(self) -> str:
        """The report as Markdown, to be pasted into an issue."""
        lines = ["# lightning-sagemaker doctor", "", "## Findings", ""]
        lines += [f"- **{each.level.upper()}** {one_line(f'{each.what} {each.fix}')}" for each in self.findings]
        for title, facts in self.sections.values():
            lines += ["", f"## {title}", "", *(map(_line, facts) if facts else ["- none"])]
        return "\n".join(lines) + "\n"


def examine(environ: Mapping[str, str], base: Path, machine: Machine) -> Report:
    """Report on a process: worst findings first, without secrets; base is its ``/opt/ml``. Raises nothing."""
    # Before anything quotes a value, perhaps half of it; and again where texts quote errors of others.
    presentable = {name: redact(value) for name, value in environ.items()}
    credentials = {name: value for name, value in environ.items() if is_credential(name)}  # each text is searched for

    def masked(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(masked, value))
        return redact(value, credentials) if isinstance(value, str) else value

    situation = Situation.of(presentable, base, machine)
    findings: list[Finding] = []
    sections: dict[str, tuple[str, tuple[Fact, ...]]] = {}
    for key, (title, look) in SECTIONS.items():
        sections[key] = title, ()
        with _telling_errors(findings, title):
            facts = tuple(replace(fact, value=masked(fact.value), why=masked(fact.why)) for fact in look(situation))
            sections[key] = title, facts
    for check in CHECKS:
        with _telling_errors(findings, check.__name__):
            findings += check(situation)
    if all(finding.level == "ok" for finding in findings):
        findings.append(ok("healthy", "nothing wrong was found."))
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Report(tuple(replace(one, what=masked(one.what), fix=masked(one.fix)) for one in findings), sections)


@contextmanager
def _telling_errors(findings: list[Finding], where: str) -> Iterator[None]:
    """A part of the examination whose error becomes a finding: what cannot be said must not hide the rest."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        what = f"the doctor could not examine {where}: {type(error).__name__}: {error}"
        fix = "HINT: a variable or file has an unexpected value; please report it with this page."
        findings.append(fail("doctor-stumbled", what, fix))


def _line(fact: Fact) -> str:
    if fact.value is None:
        return f"- {one_line(fact.name)}: {one_line(fact.why) or 'unknown'}"
    # Quoted as code, so that no value is taken for formatting.
    return f"- {one_line(fact.name)}: `{_in_words(fact.value)}`" + (f" ({one_line(fact.why)})" if fact.why else "")


def _in_words(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    text = one_line(text).replace("`", "'") or "''"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
