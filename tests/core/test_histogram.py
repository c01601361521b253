"""Log-linear histograms against their definition, and what a batch adds to them."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve_core.batching import NO_DEADLINE, BatchQueue
from fastserve_core.histogram import BUCKETS, Histogram, RunHistograms


def upper_bounds() -> list[float]:
    """In units: 1 to 8 one by one, then eight to the octave, then no bound."""
    bounds = [float(i) for i in range(1, 9)]
    for octave in range(3, 26):
        bounds += [2**octave + (i + 1) * 2 ** (octave - 3) for i in range(8)]
    return [*bounds, math.inf]


def test_there_is_a_bound_for_every_bucket() -> None:
    bounds = upper_bounds()
    assert len(bounds) == BUCKETS
    assert bounds == sorted(bounds)
    assert {2.0**i for i in range(27)} <= set(bounds)


@given(
    st.integers(0, 2**62)
    | st.integers(0, 2**20)
    | st.sampled_from([2**i + d for i in range(40) for d in (-1, 0, 1)]),
    st.sampled_from([1, 1000]),
)
@example(8, 1)  # the last of the buckets one by one
def test_a_value_lies_in_the_bucket_whose_bounds_hold_it(value: int, unit: int) -> None:
    histogram = Histogram(unit)
    histogram.add(value, 3)
    counts, total = histogram.take()
    ((bucket, count),) = counts.items()
    assert count == 3
    assert total == min(3 * value, 2**63 - 1)
    bounds = [0.0, *(bound * unit for bound in upper_bounds())]
    assert (bounds[bucket] < value or value == 0) and value <= bounds[bucket + 1]


def test_take_gives_what_is_new() -> None:
    histogram = Histogram(1)
    histogram.add(5)
    assert histogram.take() == ({4: 1}, 5)
    assert histogram.take() == ({}, 0)
    histogram.add(-7)
    assert histogram.take() == ({0: 1}, 0)
    histogram.add(2**62)
    histogram.add(2**62)
    assert histogram.take() == ({BUCKETS - 1: 2}, 2**63 - 1)
    histogram.add(2**62, 4)
    assert histogram.take() == ({BUCKETS - 1: 4}, 2**63 - 1)


@pytest.mark.parametrize("unit", [0, -1])
def test_a_unit_is_positive(unit: int) -> None:
    with pytest.raises(ValueError, match="unit must be at least 1"):
        Histogram(unit)


def test_a_count_is_not_negative() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Histogram(1).add(1, -1)


def test_a_request_split_over_two_batches_is_counted_once() -> None:
    queue, seen = BatchQueue(4, 16, 64), RunHistograms()
    queue.push(6, NO_DEADLINE, 1_000)
    queue.push(2, NO_DEADLINE, 3_000)
    first = queue.take(5_000)
    assert first is not None and first.rows == 4
    seen.observe(first, 10_000, 500)
    queue.finish(first)
    assert seen.take() == {"batch_rows": ({3: 1}, 4)}
    second = queue.take(20_000)
    assert second is not None and second.rows == 4 and second.last_parts == 2
    seen.observe(second, 1_000, 200)
    queue.finish(second)
    taken = seen.take()
    assert taken["queue"][1] == 19_000 + 17_000
    assert taken["compute"] == ({0: 2}, 2_000)
    assert taken["total"][1] == 20_200 + 18_200
    assert sum(taken["total"][0].values()) == 2
    assert taken["batch_rows"] == ({3: 1}, 4)
    queue.push(1, NO_DEADLINE, 30_000)
    at_once = queue.take(30_000)
    assert at_once is not None
    seen.observe(at_once, 1_000, 0)
    assert seen.take()["queue"] == ({0: 1}, 0)


def test_a_request_that_ran_alone_after_its_batch_failed() -> None:
    seen = RunHistograms()
    seen.observe_alone(3, 500, 700, False)  # the first part of another
    seen.observe_alone(2, 1_000, 2_000, True)
    assert seen.take() == {
        "queue": ({0: 1}, 1_000),
        "compute": ({1: 1}, 2_000),
        "total": ({2: 1}, 3_000),
        "batch_rows": ({1: 1, 2: 1}, 5),
    }
