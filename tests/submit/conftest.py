from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .aws import aws as aws  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A training script in a folder of its own."""
    folder = tmp_path / "code"
    folder.mkdir()
    path = folder / "train.py"
    path.write_text('class Model:\n    def step(self):\n        self.log("val_loss", 0.5)\n')
    return path
