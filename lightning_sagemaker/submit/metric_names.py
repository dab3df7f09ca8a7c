"""Names of the metrics that scripts log, found in their source code."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def logged_names(scripts: Iterable[Path]) -> list[str]:
    """Names that scripts pass to ``self.log("name", ...)`` as constants.

    Lightning adds ``_step`` and ``_epoch`` where both are logged, so both stand for such a name.

    Args:
        scripts: Files; those that are not Python are skipped.
    """
    names: set[str] = set()
    for path in scripts:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):  # the checks name a script that does not parse
            continue
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute):
                names.update(_names(call, call.func.attr))
    return sorted(names)


def _names(call: ast.Call, method: str) -> Iterator[str]:
    if method not in ("log", "log_dict") or not call.args:
        return
    first = call.args[0]
    keys: Iterable[ast.expr | None] = [first] if method == "log" else first.keys if isinstance(first, ast.Dict) else []
    both = {
        keyword.arg
        for keyword in call.keywords
        if keyword.arg in ("on_step", "on_epoch") and getattr(keyword.value, "value", None) is True
    }
    for key in keys:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
            if len(both) == 2:  # noqa: PLR2004 - on_step and on_epoch
                yield f"{key.value}_epoch"
