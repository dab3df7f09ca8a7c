"""The table of features in docs/smddp.md is what examples/smddp/features.py prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def page_table() -> dict[str, dict[str, str]]:
    """Cells by column and feature."""
    text = (ROOT / "docs" / "smddp.md").read_text(encoding="utf-8")
    table = text.partition("| feature | stock")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line[:2] == "| "]
    return {"stock": {row[0]: row[1] for row in rows}, "smddp": {row[0]: row[2] for row in rows}}


@pytest.mark.parametrize("strategy", ["stock", "smddp"])
def test_the_page_tells_what_works(strategy: str) -> None:
    command = [
        *(str(Path(sys.executable).with_name("lightning-sagemaker")), "simulate", "--hosts", "2"),
        *("--distribution", "smdistributed"),
        *(("--env", "LIGHTNING_SAGEMAKER_AUTOLOAD=0") if strategy == "stock" else ()),
        *(str(ROOT / "examples/smddp/features.py"), "--", "--strategy", strategy),
    ]
    job = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert job.returncode == 0, job.stdout + job.stderr
    found = dict(re.findall(r"FEATURE (.*) \| (.*)", job.stdout))
    told = page_table()[strategy]
    assert found.keys() == told.keys()
    assert all(found[feature].startswith(cell.strip("`")) for feature, cell in told.items()), (found, told)
