"""Fixtures: a user's script in a folder of its own, and a run that returns what its workers saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .helpers import PROBE, Seen, read_probes, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Write a script in a folder of its own."""
    folder = tmp_path / "source"
    folder.mkdir()

    def write(text: str, name: str = "train.py") -> Path:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def probe(script: Callable[[str], Path], tmp_path: Path) -> Callable[..., list[Seen]]:
    """Run the probe under the command; return what each of its processes saw."""

    def run(*options: str, arguments: tuple[str, ...] = (), env: Mapping[str, str] | None = None) -> list[Seen]:
        folder = tmp_path / f"seen-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        path = script(PROBE)
        done = run_cli(*options, "--env", f"PROBE_FOLDER={folder}", str(path), "--", *arguments, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return read_probes(folder)

    return run
