"""The instrument sees what it shall see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.beside_stock.comparison import complaints
from tests.beside_stock.records import Launch
from tests.beside_stock.registry import ANY, situation

if TYPE_CHECKING:
    from pathlib import Path

STOCK = {"rank 0: exit code": 0, "rank 0: weights": [0.1], "files in job": []}


def test_nothing_differs() -> None:
    assert complaints(STOCK, dict(STOCK), {}) == []


@pytest.mark.parametrize(
    "found",
    [
        STOCK | {"rank 0: weights": [0.1000000001]},
        STOCK | {"files in job": ["checkpoints/a.ckpt"]},
        STOCK | {"rank 1: exit code": 0},
        {"rank 0: exit code": 0, "files in job": []},
    ],
)
def test_a_difference_without_a_row_is_told(found: dict[str, Any]) -> None:
    (told,) = complaints(STOCK, found, {"sigterm": {}})
    assert "stock:" in told


def test_a_row_allows_what_it_names_and_nothing_else() -> None:
    found = STOCK | {"rank 0: exit code": 143, "files in job": ["a"]}
    assert complaints(STOCK, found, {"sigterm": {"exit code": 143, "files in *": ANY}}) == []
    assert len(complaints(STOCK, found, {"sigterm": {"exit code": 143}})) == 1
    (told,) = complaints(STOCK, found, {"sigterm": {"exit code": 1, "files in *": ANY}})
    assert "to be 1, and it is 143" in told


def test_an_allowance_that_nothing_needs_is_told() -> None:
    (told,) = complaints(STOCK, dict(STOCK), {"sigterm": {"exit code": 143}})
    assert "and it does not" in told


def test_an_allowance_by_no_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="no_row"):
        situation(allowed={"no_row": {"exit code": 1}})


TRACEBACK = "[rank1]: Traceback (most recent call last):\n[rank1]: FileNotFoundError: a\n"


@pytest.mark.parametrize(
    ("arm", "has_ended", "before", "code"),
    [
        ("stock", True, "", 0),
        ("off", True, "", 0),
        ("plugin", True, "", -6),
        ("stock", False, "", -6),
        ("stock", False, TRACEBACK, 1),
        ("plugin", False, TRACEBACK, -6),
    ],
)
def test_an_abort_after_the_script_s_end_is_stock_s_alone(
    tmp_path: Path, arm: str, has_ended: bool, before: str, code: int
) -> None:
    launch = Launch.__new__(Launch)
    launch.arm = arm
    path = tmp_path / "0.exit"
    path.write_text("-6")
    path.with_suffix(".stderr").write_text(f"{before}terminate called without an active exception\n")
    if has_ended:
        path.with_suffix(".result").write_text("{}")
    assert launch._exit_code(path) == code
