from __future__ import annotations

import io

import pytest  # noqa: TC002 - a fixture

from lightning_sagemaker.findings import Finding, finding, table

FOUND = [Finding("role", "ok", "it trusts SageMaker."), Finding("a long name", "fail", "ok is not.", "HINT: mend it.")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_levels_and_names_are_columns() -> None:
    assert table(FOUND, io.StringIO()) == (
        "ok       role         it trusts SageMaker.\nfail     a long name  ok is not. HINT: mend it.\n"
    )


def test_levels_have_colours_on_a_terminal_unless_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = table(FOUND, Terminal())
    assert coloured.splitlines()[0] == "\033[32mok\033[0m       role         it trusts SageMaker."
    assert coloured.count("\033[") == 4  # the levels alone
    monkeypatch.setenv("NO_COLOR", "1")
    assert table(FOUND, Terminal()) == table(FOUND)


def test_a_text_may_bring_its_fix_along() -> None:
    assert finding("role", "fail", "There is none. HINT: --role") == Finding(
        "role", "fail", "There is none.", "HINT: --role"
    )
    assert finding("role", "fail", "There is none.", "HINT: x").fix == "HINT: x"
