"""Two records of one situation: what differs, and whether the rows of the table of changes say so."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any

from tests.beside_stock.registry import ANY

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT = "<absent>"


def complaints(
    stock: Mapping[str, Any], found: Mapping[str, Any], allowances: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What differs and may not, what is other than allowed, and which allowance nothing needs any more.

    Args:
        stock: Record of the situation without the package.
        found: Record with it.
        allowances: By row, keys (with wildcards at their ends) and what is found there, or :data:`ANY`.
    """
    different = {key for key in {*stock, *found} if _text(stock, key) != _text(found, key)}
    told, allowed = [], set()
    for row, values in allowances.items():
        for pattern, value in values.items():
            keys = set(fnmatch.filter(different, f"*{pattern}"))
            if not keys:
                told.append(f"row {row!r} allows {pattern!r} to differ, and it does not")
            expected = json.dumps(value, sort_keys=True)
            wrong = [key for key in sorted(keys) if value is not ANY and _text(found, key) != expected]
            told += [f"row {row!r} allows {key!r} to be {expected}, and it is {_text(found, key)}" for key in wrong]
            allowed |= keys
    for key in sorted(different - allowed):
        told.append(f"{key}\n    stock: {_text(stock, key)[:1500]}\n    found: {_text(found, key)[:1500]}")
    return told


def _text(record: Mapping[str, Any], key: str) -> str:
    return json.dumps(record.get(key, ABSENT), sort_keys=True)
