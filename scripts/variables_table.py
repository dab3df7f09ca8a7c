"""Writes the table of variables in docs/launch-modes.md from the one that the tests run; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import made_part  # noqa: E402 - lies beside this file

from tests.variables.table import COLUMNS, VARIABLES  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = ROOT / "docs" / "launch-modes.md"


def cell(effects: Mapping[str, str]) -> str:
    """What a variable decides, columns of the same words together."""
    columns: dict[str, list[str]] = {}
    for column, text in effects.items():
        columns.setdefault(text, []).append(COLUMNS[column])
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in columns.items()) or "nothing"


def main() -> int:
    """Write or check the page."""
    head = "| variable | who sets it | stock | here | besides |\n|---|---|---|---|---|\n"
    rows = (f"| `{v.name}` | {v.set_by} | {cell(v.stock)} | {cell(v.here)} | {v.note} |\n" for v in VARIABLES)
    return made_part.put(PAGE, "variables", head + "".join(rows), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
