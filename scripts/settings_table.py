"""Writes the table of settings in docs/settings.md from the one that the package reads; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import made_part  # noqa: E402 - lies beside this file

from lightning_sagemaker.settings import SETTINGS, Setting  # noqa: E402 - see above

VALUES = {"switch": "`1`, `0`", "seconds": "seconds; `0`: off"}


def row(setting: Setting) -> str:
    """A setting as a row of the page."""
    values = setting.values
    words = ", ".join(f"`{word}`" for word in values) if isinstance(values, tuple) else VALUES.get(values, values)
    default = setting.default if " " in setting.default or setting.default == "none" else f"`{setting.default}`"
    cells = (f"`{setting.name}`", default, words, f"{setting.meaning} ([more]({setting.page}))", setting.read_in)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    head = "| variable | default | unit or values | meaning | read in |\n|---|---|---|---|---|\n"
    made = head + "".join(map(row, SETTINGS.values()))
    sys.exit(made_part.put(ROOT / "docs" / "settings.md", "settings", made, sys.argv))
