"""Bounds against their definition, a list searched from below; and the buckets of the core against these."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fastserve.monitoring.buckets import LAST, bound
from fastserve_core.histogram import Histogram

# One by one up to 8, then eight steps from each power of two to the next.
BOUNDS = [*range(1, 9), *(2**m + step * 2**m // 8 for m in range(3, 26) for step in range(1, 9)), math.inf]

units = st.one_of(
    st.integers(-5, 2**28),
    st.builds(lambda power, off: 2**power + off, st.integers(0, 30), st.integers(-2, 2)),
    st.builds(lambda near, off: int(near) + off, st.sampled_from(BOUNDS[:-1]), st.integers(-1, 1)),
)


def index_of(value: int) -> int:
    histogram = Histogram(1)
    histogram.add(value)
    (index,) = histogram.take()[0]
    return index


def test_bounds_are_the_listed_ones() -> None:
    assert [bound(index) for index in range(LAST + 1)] == BOUNDS


def test_bounds_rise_and_hold_every_power_of_two() -> None:
    assert sorted(set(BOUNDS)) == BOUNDS
    assert {2.0**power for power in range(27)} < set(BOUNDS)


@given(units)
def test_a_value_lies_in_the_first_bucket_that_is_not_below_it(value: int) -> None:
    assert BOUNDS[index_of(value)] == next(upper for upper in BOUNDS if value <= upper)


@given(st.integers(1, 2**26))
def test_a_bucket_is_no_wider_than_an_eighth(value: int) -> None:
    assert value <= bound(index_of(value)) <= value * 9 / 8
