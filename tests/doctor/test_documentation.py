"""docs/doctor.md names every section and every finding."""

from __future__ import annotations

import re
from pathlib import Path

import lightning_sagemaker.doctor
from lightning_sagemaker.doctor.sections import SECTIONS

PAGE = Path(__file__).parents[2].joinpath("docs", "doctor.md").read_text(encoding="utf-8")
SOURCES = Path(lightning_sagemaker.doctor.__file__).parent.glob("*.py")
CALL = r'\b(?:finding|fail|warn|ok)\(\s*f?"([a-z0-9-]+)'


def test_every_section_is_documented() -> None:
    assert [key for key in SECTIONS if f"`{key}`" not in PAGE] == []


def test_every_finding_is_documented_and_no_other() -> None:
    found = {name for path in SOURCES for name in re.findall(CALL, path.read_text("utf-8"))}
    rows = PAGE.partition("## Findings\n\n| name")[2].splitlines()
    documented = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)", row.split("|")[1])}
    assert len(found) > 20
    assert documented == found
