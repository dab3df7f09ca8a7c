"""Writes the table of variables in docs/launch-modes.md from the one that the tests run; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.variables.table import COLUMNS, VARIABLES  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = ROOT / "docs" / "launch-modes.md"
BEGIN, END = "<!-- variables: begin, made by scripts/variables_table.py -->", "<!-- variables: end -->"


def cell(effects: Mapping[str, str]) -> str:
    """What a variable decides, columns of the same words together."""
    columns: dict[str, list[str]] = {}
    for column, text in effects.items():
        columns.setdefault(text, []).append(COLUMNS[column])
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in columns.items()) or "nothing"


def main(arguments: Sequence[str]) -> int:
    """Write or check the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = "| variable | who sets it | stock | here | besides |\n|---|---|---|---|---|\n"
    rows = (f"| `{v.name}` | {v.set_by} | {cell(v.stock)} | {cell(v.here)} | {v.note} |\n" for v in VARIABLES)
    made = f"{before}{BEGIN}\n{head}{''.join(rows)}{END}{after}"
    if "--check" not in arguments:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        sys.stderr.write(f"{PAGE.name} differs from the table that the tests run. HINT: run {Path(__file__).name}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
