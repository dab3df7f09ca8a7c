"""What a check has found, for a reader who wants to know what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Literal["fail", "unknown", "warn", "ok"]
LEVELS: tuple[Level, ...] = ("fail", "unknown", "warn", "ok")


@dataclass(frozen=True)
class Finding:
    """Something to know.

    Attributes:
        name: What was checked.
        level: ``"fail"`` where training will fail or be wrong, ``"unknown"`` where nobody could be asked, ``"warn"``
            where it may fail or will be slow, ``"ok"`` else.
        what: What was found.
        fix: What to do, begins with ``HINT:``; empty where there is nothing to do.
    """

    name: str
    level: Level
    what: str
    fix: str = ""


def finding(name: str, level: Level, text: str, fix: str = "") -> Finding:
    """A finding from a text that may bring its fix along, as errors of this package do.

    Args:
        name: See :class:`Finding`.
        level: See :class:`Finding`.
        text: What was found, perhaps with ``HINT: ...`` at its end.
        fix: What to do, where the text does not say it.
    """
    what, hint, own = text.partition("HINT: ")
    return Finding(name, level, what.strip(), f"HINT: {own}" if hint else fix)


def table(findings: Sequence[Finding]) -> str:
    """Findings as lines of a terminal, level and name in columns, without secrets."""
    width = max(len(finding.name) for finding in findings)
    lines = "".join(
        f"{finding.level:<7}  {finding.name:<{width}}  {finding.what} {finding.fix}".rstrip() + "\n"
        for finding in findings
    )
    return redact(lines)
