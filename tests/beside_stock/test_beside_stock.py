"""Users' scripts in the same simulated job without and with this package: what differs has a row in the table."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.beside_stock.conftest import KNOWN
from tests.beside_stock.own_disks import can_have_own_disks
from tests.beside_stock.registry import ANY, STOCK, Situation, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.beside_stock.records import Launch, Record

SITUATIONS = load()
CASES = [
    pytest.param(
        situation,
        arm,
        id=(name := f"{situation.name}-{arm}"),
        marks=[
            pytest.mark.xdist_group(f"beside-stock-{situation.job}"),
            *(
                [pytest.mark.skipif(not can_have_own_disks(), reason="mounts need root")]
                if situation.job == "disks"
                else []
            ),
            *([pytest.mark.xfail(reason=KNOWN[name], raises=AssertionError)] if name in KNOWN else []),
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
    record_property("launch", f"{situation.job}-{arm}")
    record_property("seconds", with_plugin.seconds)
    stock, found = without.record(situation), with_plugin.record(situation)
    codes = {key: value for key, value in stock.items() if key.endswith("exit code")}
    assert set(codes.values()) == {situation.exit_code}, f"in stock: {codes}\n{without.stderr(situation)}"

    for row, values in situation.allowances(arm).items():
        for pattern, value in values.items():
            keys = fnmatch.filter({*stock, *found}, f"*{pattern}")
            changed = [key for key in keys if _text(stock, key) != _text(found, key)]
            assert changed, f"{situation.name}: row {row!r} allows {pattern!r} to differ, and it does not any more"
            for key in changed:
                if value is not ANY:
                    assert _text(found, key) == json.dumps(value, sort_keys=True), f"{situation.name}: {key}"
                stock[key] = found.get(key, ANY)
    different = sorted(key for key in {*stock, *found} if _text(stock, key) != _text(found, key))
    assert not different, _told(situation, arm, different, stock, found) + with_plugin.stderr(situation)


def test_known_differences_are_of_situations_that_exist() -> None:
    assert set(KNOWN) <= {case.id for case in CASES}


def _text(record: Record, key: str) -> str:
    value: Any = record.get(key, ANY)
    return json.dumps(value, sort_keys=True)


def _told(situation: Situation, arm: str, different: list[str], stock: Record, found: Record) -> str:
    lines = [f"{situation.name}, arm {arm!r}: {situation.run.__doc__ or ''}"]
    for key in different:
        lines += [f"  {key}", f"    stock: {_text(stock, key)[:1500]}", f"    {arm}: {_text(found, key)[:1500]}"]
    return "\n".join([*lines, ""])
