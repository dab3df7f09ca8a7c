"""How values of environment variables are read: those who go by a setting, and the doctor, by one table."""

from __future__ import annotations

import pytest

from lightning_sagemaker.settings import (
    AUTOLOAD,
    EXPORT,
    HEARTBEAT,
    METRICS,
    ON_MISSING,
    RUN_ID,
    SETTINGS,
    check,
    seconds,
    switch,
    word,
)


@pytest.mark.parametrize(
    ("text", "value"), [("", 300.0), (" ", 300.0), ("0", 0.0), ("12.5", 12.5), ("1e2", 100.0), ("\t3", 3.0)]
)
def test_seconds_are_read(text: str, value: float) -> None:
    assert seconds(HEARTBEAT, {HEARTBEAT: text}) == value


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "soon", "1 s"])
def test_what_is_no_number_of_seconds_is_an_error_that_names_it(text: str) -> None:
    told = rf"^Environment variable `{HEARTBEAT}`='{text}'; expected .* HINT: .* 300 s\.$"
    with pytest.raises(ValueError, match=told):
        seconds(HEARTBEAT, {HEARTBEAT: text})


@pytest.mark.parametrize(("name", "default"), [(AUTOLOAD, True), (METRICS, False)])
def test_switches_know_the_same_words(name: str, default: bool) -> None:
    texts = {"": default, " ": default, "1": True, "Yes": True, "on ": True, "0": False, "FALSE": False}
    for text, value in texts.items():
        assert switch(name, {name: text}) is value
    assert switch(name, {}) is default


@pytest.mark.parametrize("text", ["perhaps", "2", "1.0"])
def test_what_is_neither_on_nor_off_is_an_error_that_names_it(text: str) -> None:
    told = rf"^Environment variable `{METRICS}`='{text}'; expected 1 .* HINT: .* default, 0\.$"
    with pytest.raises(ValueError, match=told):
        switch(METRICS, {METRICS: text})


def test_words_are_read_and_others_are_errors() -> None:
    assert word(EXPORT, {}) is None
    assert word(EXPORT, {EXPORT: "best "}) == "best"
    assert word(ON_MISSING, {}) == "native"
    with pytest.raises(ValueError, match=rf"`{EXPORT}`='worst'; expected best or last\. HINT: .* default, none\.$"):
        word(EXPORT, {EXPORT: "worst"})


def test_each_setting_s_default_can_be_read() -> None:
    for row in SETTINGS.values():
        check(row.name, {})
        check(row.name, {row.name: "" if row.default in ("none", "") or "/" in row.default else row.default})
    check(RUN_ID, {RUN_ID: "any text"})


def test_the_process_s_own_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS, "1")
    monkeypatch.setenv(HEARTBEAT, "7")
    assert switch(METRICS)
    assert seconds(HEARTBEAT) == 7.0
