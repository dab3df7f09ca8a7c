"""How values of environment variables are read."""

from __future__ import annotations

import pytest

from lightning_sagemaker.settings import seconds, switch

NAME = "LIGHTNING_SAGEMAKER_TEST"


@pytest.mark.parametrize(
    ("text", "value"), [("", 7.0), (" ", 7.0), ("0", 0.0), ("12.5", 12.5), ("1e2", 100.0), ("\t3", 3.0)]
)
def test_seconds_are_read(text: str, value: float) -> None:
    assert seconds(NAME, 7.0, {NAME: text}) == value


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "soon", "1 s"])
def test_what_is_no_number_of_seconds_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^Environment variable `{NAME}`='{text}'; expected .* HINT: .* 7 s\.$"):
        seconds(NAME, 7.0, {NAME: text})


@pytest.mark.parametrize("default", [True, False])
def test_switches_know_the_same_words(default: bool) -> None:
    for text, value in {
        "": default,
        " ": default,
        "1": True,
        "Yes": True,
        "on ": True,
        "0": False,
        "FALSE": False,
    }.items():
        assert switch(NAME, {NAME: text}, default=default) is value
    assert switch(NAME, {}, default=default) is default


@pytest.mark.parametrize("text", ["perhaps", "2", "1.0"])
def test_what_is_neither_on_nor_off_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^Environment variable `{NAME}`='{text}'; expected 1 .* HINT: .* default, 0\.$"
    ):
        switch(NAME, {NAME: text})


def test_the_process_s_own_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "1")
    assert switch(NAME)
    assert seconds(NAME, 7.0) == 1.0
