"""The table of variables is as stock Lightning, torch and this package are: each row is run, without and with it."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lightning_sagemaker
from lightning_sagemaker.job import SageMakerJob
from tests.variables.table import COLUMNS, VARIABLES, Variable
from tests.variables.worlds import changed, effects, environments

if TYPE_CHECKING:
    from tests.variables.worlds import Effects

ARMS = {"stock": {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}, "here": {}}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Effects]:
    """What each variable decides, without and with the package."""
    return {name: effects(tmp_path_factory.mktemp(name), arm) for name, arm in ARMS.items()}


@pytest.mark.xdist_group("variables")
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("row", VARIABLES, ids=lambda row: row.name)
def test_each_row_is_what_happens(seen: dict[str, Effects], row: Variable, arm: str) -> None:
    told = {column: set(text.split(", ")) for column, text in getattr(row, arm).items()}
    assert {column: found for column, found in seen[arm][row.name].items() if found} == told


class _Recording(dict[str, str]):
    """An environment that knows what it was asked for."""

    def __init__(self, environ: dict[str, str], asked: set[str]) -> None:
        super().__init__(environ)
        self.asked = asked

    def get(self, name: str, default: object = None) -> str | None:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def test_the_reader_looks_at_exactly_the_rows_that_say_so(tmp_path: Path) -> None:
    told = {row.name for row in VARIABLES if row.read}
    asked: set[str] = set()
    for _, environ in environments(tmp_path):
        for row in VARIABLES:
            for _, other in changed(environ, row):
                with suppress(ValueError, FileNotFoundError):  # asked all the same
                    SageMakerJob.detect(_Recording(other, asked))
    assert asked == told
    # What is read by name in a situation that is not above.
    written = {
        node.value
        for path in (Path(lightning_sagemaker.__file__).parent / "job").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[A-Z][A-Z_]{2,}[A-Z]", node.value)
    }
    assert written - _ELSEWHERE == told


# Of `job.channels`, which says nothing about the world; a name in Python.
_ELSEWHERE = {"SM_INPUT_DATA_CONFIG", "FOREIGN_RANK"}


def test_columns_are_named() -> None:
    assert {column for row in VARIABLES for column in (*row.stock, *row.here)} == {*COLUMNS}
    assert len({row.name for row in VARIABLES}) == len(VARIABLES)
