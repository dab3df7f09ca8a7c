"""Users' scripts in the same simulated job without and with this package: what differs has a row in the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.beside_stock.comparison import complaints
from tests.beside_stock.own_disks import can_have_own_disks
from tests.beside_stock.registry import STOCK, Situation, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.beside_stock.records import Launch

SITUATIONS = load()
CASES = [
    pytest.param(
        situation,
        arm,
        id=f"{situation.name}-{arm}",
        marks=[
            pytest.mark.xdist_group(f"beside-stock-{situation.job}"),
            *([pytest.mark.nightly] if situation.nightly or arm not in ("plugin", "resume") else []),
            *(
                [pytest.mark.skipif(not can_have_own_disks(), reason="mounts need root")]
                if situation.job == "disks"
                else []
            ),
        ],
    )
    for situation in SITUATIONS.values()
    for arm in situation.arms
]


@pytest.mark.timeout(0)  # the launches have limits of their own, for each situation in them
@pytest.mark.parametrize(("situation", "arm"), CASES)
def test_nothing_differs_but_by_a_row_of_the_table_of_changes(
    situation: Situation,
    arm: str,
    launch: Callable[[str, str], Launch],
    record_property: Callable[[str, object], None],
) -> None:
    without, with_plugin = launch(situation.job, STOCK), launch(situation.job, arm)
    for name, value in (("situation", situation.name), ("rows", " ".join(situation.allowances(arm)))):
        record_property(name, value)
    record_property("launches", {f"{situation.job}-{run.arm}": run.seconds for run in (without, with_plugin)})
    stock, found = without.record(situation), with_plugin.record(situation)
    codes = {key: value for key, value in stock.items() if key.endswith("exit code")}
    assert set(codes.values()) == {situation.exit_code}, f"in stock: {codes}\n{without.stderr(situation)}"

    told = "\n  ".join(complaints(stock, found, situation.allowances(arm)))
    doc = situation.run.__doc__ or ""
    assert not told, f"{situation.name}, arm {arm!r}: {doc}\n  {told}\n{with_plugin.stderr(situation)}"
