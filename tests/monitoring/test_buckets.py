"""Buckets against their definition: a list of bounds, searched from below."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.monitoring.buckets import LAST, bound, index_of, quantile

# One by one up to 8, then eight steps from each power of two to the next.
BOUNDS = [*range(1, 9), *(2**m + step * 2**m // 8 for m in range(3, 26) for step in range(1, 9)), math.inf]

units = st.one_of(
    st.integers(-5, 2**28),
    st.builds(lambda power, off: 2**power + off, st.integers(0, 30), st.integers(-2, 2)),
    st.builds(lambda near, off: int(near) + off, st.sampled_from(BOUNDS[:-1]), st.integers(-1, 1)),
)


def naive_index(value: int) -> int:
    return next(index for index, upper in enumerate(BOUNDS) if value <= upper)


def test_bounds_are_the_listed_ones() -> None:
    assert [bound(index) for index in range(LAST + 1)] == BOUNDS


def test_bounds_rise_and_hold_every_power_of_two() -> None:
    assert sorted(set(BOUNDS)) == BOUNDS
    assert {2.0**power for power in range(27)} < set(BOUNDS)


@given(units)
def test_a_value_lies_in_the_first_bucket_that_is_not_below_it(value: int) -> None:
    assert index_of(value) == naive_index(value)


@given(st.integers(1, 2**26))
def test_a_bucket_is_no_wider_than_an_eighth(value: int) -> None:
    assert value <= bound(index_of(value)) <= value * 9 / 8


@given(st.lists(units, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_the_bound_of_the_ranked_value(values: list[int], q: float) -> None:
    buckets: dict[int, int] = {}
    for value in values:
        buckets[index_of(value)] = buckets.get(index_of(value), 0) + 1
    ranked = sorted(values)[max(math.ceil(q * len(values)), 1) - 1]
    assert quantile(buckets, q) == BOUNDS[naive_index(ranked)]


def test_a_quantile_of_nothing() -> None:
    assert math.isnan(quantile({}, 0.5))
    assert math.isnan(quantile({3: 0}, 0.5))


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_of_0_to_1(q: float) -> None:
    with pytest.raises(ValueError, match="lies in 0 to 1"):
        quantile({1: 1}, q)


@pytest.mark.parametrize("index", [-1, LAST + 1])
def test_no_such_bucket(index: int) -> None:
    with pytest.raises(ValueError, match="numbered 0 to 192"):
        bound(index)
