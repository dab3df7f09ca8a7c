"""The scaling rules."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_sagemaker import scale_learning_rate

rates = st.floats(1e-12, 1e6)

sizes = st.integers(1, 2**20)

rules = st.sampled_from(["linear", "sqrt"])


@given(lr=rates, world_size=sizes, base=sizes)
def test_the_linear_rule_is_proportional_to_the_world_size(lr: float, world_size: int, base: int) -> None:
    scaled = scale_learning_rate(lr, world_size=world_size, base_world_size=base)
    assert scaled == pytest.approx(lr * world_size / base)


@given(lr=rates, world_size=sizes, base=sizes)
def test_the_sqrt_rule_applied_twice_is_the_linear_rule(lr: float, world_size: int, base: int) -> None:
    once = scale_learning_rate(lr, world_size=world_size, base_world_size=base, rule="sqrt")
    twice = scale_learning_rate(once, world_size=world_size, base_world_size=base, rule="sqrt")
    assert twice == pytest.approx(scale_learning_rate(lr, world_size=world_size, base_world_size=base))


@given(lr=rates, world_size=sizes, rule=rules)
def test_equal_world_sizes_leave_the_rate_bit_by_bit(lr: float, world_size: int, rule: Any) -> None:
    assert scale_learning_rate(lr, world_size=world_size, base_world_size=world_size, rule=rule) == lr


@given(lr=rates, first=sizes, second=sizes, third=sizes, rule=rules)
def test_scaling_by_way_of_another_world_size_changes_nothing(
    lr: float, first: int, second: int, third: int, rule: Any
) -> None:
    there = scale_learning_rate(lr, world_size=second, base_world_size=first, rule=rule)
    further = scale_learning_rate(there, world_size=third, base_world_size=second, rule=rule)
    assert further == pytest.approx(scale_learning_rate(lr, world_size=third, base_world_size=first, rule=rule))


def test_an_integer_rate_becomes_a_float() -> None:
    assert isinstance(scale_learning_rate(1, world_size=1), float)


@pytest.mark.parametrize("lr", [0, 0.0, -0.1, math.inf, -math.inf, math.nan])
def test_a_rate_that_is_none_is_an_error_that_names_it(lr: float) -> None:
    with pytest.raises(ValueError, match=rf"^lr={lr!r}; expected a finite number > 0\. HINT: "):
        scale_learning_rate(lr, world_size=2)


@pytest.mark.parametrize("lr", [True, "0.1", None, 1j])
def test_a_rate_that_is_no_number_is_an_error_that_names_it(lr: Any) -> None:
    with pytest.raises(TypeError, match=r"^lr=.*; expected a number > 0\. HINT: "):
        scale_learning_rate(lr, world_size=2)


@pytest.mark.parametrize("name", ["world_size", "base_world_size"])
@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (2.0, TypeError)])
def test_a_size_that_is_none_is_an_error_that_names_it(name: str, size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{name}={size!r}; expected an integer >= 1\. HINT: "):
        scale_learning_rate(0.1, **{"world_size": 2, name: size})


def test_an_unknown_rule_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^rule='cubic'; expected \"linear\" or \"sqrt\"\. HINT: "):
        scale_learning_rate(0.1, world_size=2, rule="cubic")  # type: ignore[arg-type]


def test_the_world_size_has_to_be_named() -> None:
    with pytest.raises(TypeError, match="positional"):
        scale_learning_rate(0.1, 2)  # type: ignore[call-arg]
