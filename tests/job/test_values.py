"""Single values are read strictly, and refused in words that name them."""

from __future__ import annotations

import json

import pytest

from lightning_sagemaker.job.values import integer, json_value, names, shown, some

NO_INTEGERS = {
    "negative": "-1",
    "signed": "+1",
    "float": "1.0",
    "exponent": "1e3",
    "underscore": "1_000",
    "hexadecimal": "0x10",
    "leading-space": " 1",
    "trailing-space": "1 ",
    "trailing-newline": "1\n",
    "whitespace": " ",
    "arabic-digits": "١٢",
    "superscript": "²",
    "fullwidth": "\N{FULLWIDTH DIGIT ONE}",
    "word": "abc",
    "none": "None",
    "json": '"1"',
    "list": "1,2",
    "nul": "1\0",
    "above-most": "100000001",
    "11-digits": "00000000001",
    "huge": "9" * 5000,
    "infinite": "inf",
}


@pytest.mark.parametrize("text", NO_INTEGERS.values(), ids=list(NO_INTEGERS))
def test_what_is_no_plain_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`RANK`=.*; expected an integer from 0 to 100000000\. HINT: ") as caught:
        integer({"RANK": text}, "RANK")
    assert repr(text)[:40] in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("7", 7), ("007", 7), ("100000000", 10**8)], ids=["zero", "seven", "padded", "most"]
)
def test_a_plain_integer_is_read(text: str, value: int) -> None:
    assert integer({"RANK": text}, "RANK") == value


@pytest.mark.parametrize("environ", [{}, {"RANK": ""}], ids=["unset", "empty"])
def test_an_unset_or_empty_variable_is_none(environ: dict[str, str]) -> None:
    assert integer(environ, "RANK") is None


@pytest.mark.parametrize(("text", "fits"), [("0", False), ("1", True), ("65535", True), ("65536", False)])
def test_the_bounds_belong_to_the_range(text: str, fits: bool) -> None:
    if fits:
        assert integer({"PORT": text}, "PORT", least=1, most=65535) == int(text)
        return
    with pytest.raises(ValueError, match=rf"`PORT`='{text}'; expected an integer from 1 to 65535\. HINT: "):
        integer({"PORT": text}, "PORT", least=1, most=65535)


NO_JSON = {
    "empty": "",
    "cut-at-hash": '{"hosts":["algo-1"],"note":"a',
    "cut-in-a-name": '{"hosts":["algo-',
    "quotes-vanished": "{hosts:[algo-1]}",
    "two-values": "{} {}",
    "byte-order-mark": "\ufeff{}",
    "python": "{'hosts': ['algo-1']}",
    "bottomless-list": "[" * 100_000,
    "bottomless-object": '{"a":' * 100_000,
    "digits": "9" * 5000,
    "long": '{"a": "' + "b" * 100_000,
    "nul": "\0",
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=list(NO_JSON))
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^SM_HPS is not JSON \(.*\. HINT: .*`#`") as caught:
        json_value(text, "SM_HPS")
    assert repr(text)[:40] in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("value", [None, True, 1.5, "a", [], {}, {"a": [1, "b"]}])
def test_json_of_any_type_is_read(value: object) -> None:
    assert json_value(json.dumps(value), "SM_HPS") == value


NO_NAMES = {
    "nothing": None,
    "empty": [],
    "text": "algo-1",
    "object": {"algo-1": 1},
    "numbers": [1, 2],
    "mixed": ["algo-1", None],
    "nested": [["algo-1"]],
    "empty-name": ["algo-1", ""],
    "true": True,
    "thousand-and-one": [f"algo-{number}" for number in range(1000)] + [1],
}


@pytest.mark.parametrize("value", NO_NAMES.values(), ids=list(NO_NAMES))
def test_what_is_no_list_of_names_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^`hosts` in x is .*; expected a list of host names.*HINT: ") as caught:
        names(value, "`hosts` in x")
    assert repr(value)[:20] in str(caught.value)
    assert len(str(caught.value)) < 700


def test_names_keep_their_order() -> None:
    assert names(["algo-2", "algo-10", "algo-1"], "hosts") == ("algo-2", "algo-10", "algo-1")


def test_names_that_occur_twice_are_refused_and_named() -> None:
    hosts = [f"algo-{number}" for number in range(1000)]
    with pytest.raises(ValueError, match=r"^`hosts` in x repeats algo-500; expected distinct host names.*HINT: "):
        names([*hosts, "algo-500"], "`hosts` in x")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (1, "a0"),
        (8, "a0, a1, a2, a3, a4, a5, a6, a7"),
        (9, "a0, a1, a2, a3, a4, a5, a6, a7, ... (9 in all)"),
    ],
)
def test_many_names_are_shortened(count: int, text: str) -> None:
    assert some([f"a{number}" for number in range(count)]) == text


def test_a_long_value_is_shortened() -> None:
    assert shown("short") == "'short'"
    assert shown("x" * 118) == "'" + "x" * 118 + "'"
    assert shown("x" * 119) == "'" + "x" * 119 + "..."
