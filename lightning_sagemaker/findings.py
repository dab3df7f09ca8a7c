"""What a check has found, for a reader who wants to know what to do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TextIO

from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Literal["fail", "unknown", "warn", "ok"]
LEVELS: tuple[Level, ...] = ("fail", "unknown", "warn", "ok")
_COLOURS = {"fail": "\033[31m", "unknown": "\033[35m", "warn": "\033[33m", "ok": "\033[32m"}
_LEVEL = re.compile(rf"^(?:{'|'.join(LEVELS)})\b", re.MULTILINE)


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
    """A finding from a text that may bring its fix along, ``HINT: ...``, as errors of this package do."""
    what, hint, own = text.partition("HINT: ")
    return Finding(name, level, what.strip(), f"HINT: {own}" if hint else fix)


def _of(level: Level, name: str, text: str, fix: str = "") -> Finding:
    return finding(name, level, text, fix)


fail, unknown, warn, ok = (partial(_of, level) for level in LEVELS)  # each takes name, text and perhaps the fix


def table(findings: Sequence[Finding], stream: TextIO | None = None) -> str:
    """Findings as lines, level and name in columns, without secrets.

    On a terminal the levels have colours, unless ``NO_COLOR`` is set (no-color.org).
    """
    coloured = stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")
    width = max(len(finding.name) for finding in findings)
    lines = redact(
        "".join(
            f"{finding.level:<7}  {finding.name:<{width}}  {finding.what} {finding.fix}".rstrip() + "\n"
            for finding in findings
        )
    )
    return re.sub(_LEVEL, lambda found: f"{_COLOURS[found[0]]}{found[0]}\033[0m", lines) if coloured else lines
