"""Writes the table of docs/changes.md from the package's own; ``--check`` only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_sagemaker.changes import CHANGES, Change

PAGE = Path(__file__).parents[1] / "docs" / "changes.md"
BEGIN, END = "<!-- changes: begin, made by scripts/changes_table.py -->", "<!-- changes: end -->"


def row(change: Change) -> str:
    """One line of the table."""
    switch = ""
    if change.variable:
        switch = f"`{change.variable}=1` switches it on" if change.opt_in else f"`{change.variable}=0` too"
    line = f"`{change.line}`" if change.line else "none: nothing that a user sees"
    return f"| `{change.name}` | {change.stock} | {change.ours} | {change.when} | {line} | {switch} |"


def main() -> int:
    """Write or check the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = "| name | stock | here | when | the line that says so | other switch |\n|---|---|---|---|---|---|\n"
    made = f"{before}{BEGIN}\n{head}" + "".join(f"{row(change)}\n" for change in CHANGES) + f"{END}{after}"
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        sys.stderr.write(f"{PAGE.name} differs from the package's table. HINT: run scripts/changes_table.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
