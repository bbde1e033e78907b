"""Schedules: ends, direction and the shape in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.maths.schedules import falling_count, log_linear, rising


@given(
    start=st.integers(0, 300),
    drop=st.integers(0, 300),
    first=st.integers(0, 50),
    length=st.integers(1, 200),
    power=st.floats(0.25, 6),
)
def test_a_count_falls_from_start_to_end_and_never_rises(start, drop, first, length, power):
    end = max(start - drop, 0)
    last = first + length
    counts = [
        falling_count(i, start=start, end=end, first=first, last=last, power=power)
        for i in range(last + 3)
    ]
    assert counts[: first + 1] == [start] * (first + 1)
    assert counts[last:] == [end] * 3
    assert counts == sorted(counts, reverse=True)


def test_the_cubic_schedule_by_hand():
    counts = [
        falling_count(i, start=100, end=20, first=0, last=4, power=3.0) for i in (0, 1, 2, 3, 4)
    ]
    # 20 + 80 * (1, 27/64, 1/8, 1/64, 0)
    assert counts == [100, 54, 30, 21, 20]


@pytest.mark.parametrize(("step", "expected"), [(0, 100.0), (1, 10.0), (2, 1.0), (5, 1.0)])
def test_a_logarithm_falls_linearly(step, expected):
    assert log_linear(step, start=100.0, end=1.0, num_steps=2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("num_steps", "values"), [(4, [0.0, 0.2, 0.4, 0.6, 0.8, 0.8]), (0, [0.8] * 6)]
)
def test_a_value_rises_linearly_then_stays(num_steps, values):
    assert [rising(i, end=0.8, num_steps=num_steps) for i in range(6)] == pytest.approx(values)
