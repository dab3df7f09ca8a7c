"""Writes the table of docs/changes.md from the package's own; ``--check`` only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import made_part

from lightning_sagemaker.changes import CHANGES, Change

PAGE = Path(__file__).parents[1] / "docs" / "changes.md"


def row(change: Change) -> str:
    """One line of the table."""
    switch = ""
    if change.variable:
        on = " or ".join(f"`{change.variable}={value}`" for value in change.values)
        switch = f"{on} switches it on" if change.opt_in else f"`{change.variable}=0` too"
    line = f"`{change.line}`" if change.line else "none: nothing that a user sees"
    return f"| `{change.name}` | {change.stock} | {change.ours} | {change.when} | {line} | {switch} |"


def main() -> int:
    """Write or check the page."""
    head = "| name | stock | here | when | the line that says so | other switch |\n|---|---|---|---|---|---|\n"
    return made_part.put(PAGE, "changes", head + "".join(f"{row(change)}\n" for change in CHANGES), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
