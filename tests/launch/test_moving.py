"""What docs/moving.md says of glue that is left in, in a job under mpirun, without this package and with it.

For other jobs: beside_stock/situations/glue.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..simulate.helpers import run_cli  # noqa: TID252 - importmode=importlib

SCRIPT = Path(__file__).with_name("glue_of_mpirun.py")


def _run(folder: Path, *variables: str) -> list[dict[str, Any]]:
    folder.mkdir()
    options = ("--processes-per-host", "2", "--distribution", "mpi", *variables)
    done = run_cli(*options, str(SCRIPT), "--", str(folder), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_glue_for_ranks_under_mpirun_is_as_in_stock(tmp_path: Path) -> None:
    found = _run(tmp_path / "with")
    assert found == _run(tmp_path / "without", "--env", "LIGHTNING_SAGEMAKER_AUTOLOAD=0")
    for rank, told in enumerate(found):
        assert told["recipe"] == "KeyError('RANK')"
        assert told["copied"][:2] == told["chosen"][:2] == [rank, 0]
