"""Steps per second, and the time that is left."""

from __future__ import annotations

import pytest

from lightning_sagemaker.metrics.lines import Pace, Progress, duration


def at(step: int, share: float | None) -> Progress:
    return Progress(0, step, share=share)


def test_speed_is_that_since_the_last_measurement_and_the_rest_is_told_by_the_whole_way() -> None:
    pace = Pace(100.0, at(1, 1 / 101))
    assert pace.measure(110.0, at(21, 21 / 101)) == pytest.approx((2.0, 40.0))
    assert pace.measure(130.0, at(31, 31 / 101)) == pytest.approx((0.5, 70.0))


def test_a_validation_counts_for_the_time_left_and_not_for_the_speed() -> None:
    pace = Pace(0.0, at(0, 0.0))
    pace.leave_out(30.0)
    assert pace.measure(40.0, at(10, 0.5)) == (1.0, 40.0)
    assert pace.measure(50.0, at(20, 1.0)) == (1.0, 0.0)


def test_nothing_is_told_of_a_training_that_stands_still_or_has_no_end() -> None:
    pace = Pace(0.0, at(5, None))
    assert pace.measure(10.0, at(5, None)) == (None, None)
    assert pace.measure(20.0, at(15, None)) == (1.0, None)
    assert pace.measure(20.0, at(16, None)) == (None, None)


def test_a_training_beyond_its_estimated_end_has_no_time_left_to_tell() -> None:
    assert Pace(0.0, at(10, 0.9)).measure(1.0, at(12, 1.1)) == (2.0, None)


def test_a_training_that_is_put_back_is_measured_anew() -> None:
    pace = Pace(0.0, at(1, 0.01))
    pace.measure(10.0, at(100, 0.9))
    assert pace.measure(11.0, at(2, 0.02)) == (None, None)
    assert pace.measure(13.0, at(4, 0.04)) == pytest.approx((1.0, 96.0))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (226, "0:03:46"), (3600, "1:00:00"), (90000, "1 day, 1:00:00")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
