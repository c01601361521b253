"""Edges of bins where a value is rare, large or had by many rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.monitoring.sampling import NumberRanges
from fastserve.types import DataType
from tests.monitoring.test_building import built


@pytest.mark.parametrize("slack", [0.0, 1e-6])
@pytest.mark.parametrize(("common", "around"), [(1.0, [1.0, 1.0, 5.0]), (np.nan, [5.0, 5.0])])
def test_the_largest_value_counts_though_it_is_not_in_the_sample(
    common: float, around: list[float], slack: float
) -> None:
    ranges = NumberRanges(1, 4)
    ranges.add(np.array([[5.0], *[[common]] * 10_000]))
    (edges,) = ranges.edges(16, slack)
    assert edges == pytest.approx(around, rel=1e-5)
    assert edges[0] < around[0] and edges[-1] >= 5.0


def test_a_whole_number_that_no_double_is_lies_within() -> None:
    (feature,) = built(np.array([[0], [2**53 + 1]]), DataType.INT64)
    assert (feature.counts[0], feature.counts[-1]) == (0, 0)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60))
def test_the_room_around_answers_moves_none_of_them(values: list[int]) -> None:
    """What many rows have lies on the same side of an edge, with room or without."""
    rows = np.array(values, np.float32)[:, None]
    (exact,) = built(rows, DataType.FP32)
    (roomy,) = built(rows, DataType.FP32, role="output")
    assert roomy.counts == exact.counts


def test_answers_that_were_never_negative_have_no_room_for_it() -> None:
    largest = float(np.finfo(np.float64).max)
    (feature,) = built(np.array([[0.0], [1.0], [largest]]), DataType.FP64, role="output")
    assert -1e-300 < feature.edges[0] < 0.0
    assert feature.edges[-1] == largest


def test_labels_ascend_whichever_is_frequent() -> None:
    (label,) = built(np.array([[1], [1], [0]]), DataType.INT64, role="output")
    assert (label.categories, label.counts) == ((0, 1), (1, 2))
