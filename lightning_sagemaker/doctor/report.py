"""The report: sections of named facts and a list of findings, as Markdown for a reader or JSON for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.options import one_line

if TYPE_CHECKING:
    from lightning_sagemaker.findings import Finding

Value = str | int | tuple[str, ...] | None  # a bool is an int

_LONGEST = 600  # characters of a value that are shown in Markdown


@dataclass(frozen=True)
class Fact:
    """Something that was seen or follows, and why it is so, or why nothing is known."""

    name: str  # a stable key
    value: Value  # None where it is unknown or absent
    why: str = ""


@dataclass(frozen=True)
class Section:
    """Facts about one subject."""

    key: str  # a stable one
    title: str
    facts: tuple[Fact, ...]  # with different names


@dataclass(frozen=True)
class Report:
    """What was found in one process."""

    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]

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
                section.key: {fact.name: {"value": fact.value, "why": fact.why} for fact in section.facts}
                for section in self.sections
            },
        }

    def as_markdown(self) -> str:
        """The report as Markdown, to be pasted into an issue."""
        lines = ["# lightning-sagemaker doctor", "", "## Findings", ""]
        lines += [f"- **{each.level.upper()}** {one_line(f'{each.what} {each.fix}')}" for each in self.findings]
        for section in self.sections:
            lines += ["", f"## {section.title}", "", *map(_line, section.facts)]
            if not section.facts:
                lines.append("- none")
        return "\n".join(lines) + "\n"


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
