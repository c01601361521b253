"""Where number sketches could go wrong by one: the ends of a dtype, vectors half full, many edges, mixed calls."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_core.sketch import NumberSketch
from tests.sketch import twin_number

pytestmark = pytest.mark.usefixtures("level")

FLOATS = ["f4", "f8"]
WHOLE = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
ODD = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 5e-324, 3.4028234e38, -3.4028234e38, 1e38, 1.7e308]
ENDS = [-(2**63), 2**63, 2**64, 2**53, 2**53 + 2, 2**31, -(2**31), 2**32, 2**31 - 1, 255, 127, -128, 0, 1, -1]


def sketch_of(edges: Any, values: npt.NDArray[Any], shifts: Any = None) -> NumberSketch:
    sketch = NumberSketch(edges, shifts)
    sketch.update(values)
    return sketch


def check(sketch: NumberSketch, edges: Any, values: npt.NDArray[Any]) -> None:
    """What is counted is the twin's exactly, and so are the extremes; values [rows, features]."""
    with np.errstate(over="ignore", invalid="ignore"):  # the twin's sums of huge doubles
        twin = twin_number.sketch(values, [np.asarray(each, np.float64) for each in edges])
    assert sketch.rows == len(values)
    assert sketch.counts.tolist() == [count for feature in twin for count in feature.counts]
    assert sketch.missing.tolist() == [feature.missing for feature in twin]
    assert sketch.negative_infinite.tolist() == [feature.negative for feature in twin]
    assert sketch.positive_infinite.tolist() == [feature.positive for feature in twin]
    np.testing.assert_array_equal(sketch.minimum, [feature.minimum for feature in twin])
    np.testing.assert_array_equal(sketch.maximum, [feature.maximum for feature in twin])


@st.composite
def edge_lists(draw: st.DrawFn, features: int) -> list[list[float]]:
    ends = st.sampled_from([float(value) for value in ENDS])
    odd = st.sampled_from([value for value in ODD if np.isfinite(value)])
    edge = st.one_of(st.floats(-200, 200, width=32), st.integers(-5, 5).map(float), odd, ends)
    few = [draw(st.lists(edge, max_size=20)) for _ in range(min(features, 3))]
    if draw(st.booleans()):
        few[0] = np.linspace(-3, 3, draw(st.integers(64, 70))).tolist()
    return [sorted({value + 0.0 for value in few[f % len(few)]}) for f in range(features)]


def beside(generator: Any, edges: list[list[float]], dtype: Any, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Values that equal an edge, lie next to one, or at an end of the dtype."""
    near = np.array([0.0, *(edge for each in edges for edge in each)])
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            exact = generator.choice(near, shape).astype(dtype)
            odd = np.array(ODD).astype(dtype)
            next_to = np.nextafter(exact, generator.choice([-np.inf, np.inf], shape).astype(dtype))
        mixed: npt.NDArray[Any] = np.choose(
            generator.integers(0, 3, shape), [exact, next_to, generator.choice(odd, shape)]
        )
        return mixed
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    close = [int(value) + step for value in near for step in (-1, 0, 1)]
    known = np.array([value for value in (*close, *ENDS, low, high) if low <= value <= high], dtype)
    picked: npt.NDArray[Any] = generator.choice(known, shape)
    return picked


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_beside_every_edge_and_at_every_end(data: st.DataObject) -> None:
    features = data.draw(st.sampled_from([1, 3, 6, 8, 9, 17]))
    rows = data.draw(st.sampled_from([1, 7, 9, 63, 65]))
    dtype: np.dtype[Any] = np.dtype(data.draw(st.sampled_from(FLOATS + WHOLE)))
    edges = data.draw(edge_lists(features))
    values = beside(np.random.default_rng(data.draw(st.integers(0, 999))), edges, dtype, (rows, features))
    check(sketch_of(edges, values), edges, values)


@pytest.mark.parametrize("features", [1, 2, 3, 5, 6, 7, 8, 15, 33])
def test_any_calls_are_one_pass(features: int) -> None:
    generator = np.random.default_rng(features)
    edges = [np.unique(generator.normal(0, 1, 3 + f % 17)) for f in range(features)]
    values = generator.normal(0, 1, (211, features)).astype(np.float32)
    values[generator.random(values.shape) < 0.02] = np.nan
    sketch = NumberSketch(edges)
    for first, last in [(0, 1), (1, 3), (3, 3), (3, 90), (90, 211)]:
        sketch.update(values[first:last])
        check(sketch, edges, values[:last])


def test_a_call_of_more_values_than_are_counted_in_one_turn() -> None:
    turn_rows, more = 2**20, 5
    values = np.arange(4 * (turn_rows + more), dtype=np.float32).reshape(-1, 4)
    sketch = sketch_of([[4 * turn_rows - 1]] * 4, values)
    assert sketch.counts.tolist() == [turn_rows, more] * 4
    assert sketch.minimum.tolist() == values[0].tolist() and sketch.maximum.tolist() == values[-1].tolist()


def test_dtypes_mix_in_one_sketch() -> None:
    generator = np.random.default_rng(5)
    edges = [[-1.5, 0.0, 0.5, 3.0], *(np.linspace(-2, 2, number).tolist() for number in (64, 65, 66, 70))] * 2
    parts = [generator.normal(0, 2, (70, 10)).astype(dtype) for dtype in FLOATS]
    parts += [generator.integers(0, 5, (70, 10)).astype(dtype) for dtype in WHOLE]
    sketch = NumberSketch(edges)
    for part in parts:
        sketch.update(part)
    check(sketch, edges, np.concatenate([part.astype(np.float64) for part in parts]))


@pytest.mark.parametrize("dtype", WHOLE)
def test_edges_outside_the_dtype(dtype: str) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    few = sorted({-1e300, -1e19, float(low) - 1, float(low), float(high), 1e20, 1e300})
    edges: list[list[float]] = [few, [], [-1e19 * (80 - i) for i in range(80)], few]
    values = np.array([[low, high, low, 0], [high, low, 0, 1]] * 40, dtype)
    check(sketch_of(edges, values), edges, values)


def test_most_edges_of_a_feature() -> None:
    edges: list[npt.NDArray[np.float64]] = [np.arange(65_535.0), np.zeros(0)]
    values = np.random.default_rng(0).integers(-5, 70_000, (500, 2)).astype(np.float32)
    placed = np.searchsorted(edges[0], values[:, 0].astype(np.float64), side="left")
    counts = [*np.bincount(placed, minlength=65_536).tolist(), 500]
    assert sketch_of(edges, values).counts.tolist() == counts
    with pytest.raises(ValueError, match="65536 edges make more than 65536 counts"):
        NumberSketch([np.arange(65_536.0)])


def test_true_is_any_byte_but_zero() -> None:
    values = np.array([0, 1, 2, 255] * 30, np.uint8).view(np.bool_)
    sketch = sketch_of([[0.5]], values)
    assert sketch.counts.tolist() == [30, 90] and sketch.mean.tolist() == [0.75]


def test_variance_is_of_a_sample() -> None:
    values = (1e6 + np.random.default_rng(1).normal(0, 1, (5000, 8))).astype(np.float32)
    sketch = sketch_of([[]] * 8, values, [1e6] * 8)
    np.testing.assert_allclose(sketch.variance, values.astype(np.float64).var(axis=0, ddof=1), rtol=1e-9)
    assert np.isnan(sketch_of([[]], np.ones(1)).variance).all()


@pytest.mark.parametrize("at", [1e9, -1e13, 1e300])
def test_a_variance_that_the_squares_have_lost_is_none(at: float) -> None:
    values = at * (1 + 1e-9 * np.random.default_rng(1).standard_normal(10_000))
    far = sketch_of([[], []], np.column_stack([values, np.full(10_000, at)]), [1e6, 1e6])
    assert np.isnan(far.variance[0])
    assert far.variance[1] == 0
    near = sketch_of([[]], values, [at])
    if at < 1e100:
        np.testing.assert_allclose(near.variance, values.var(ddof=1), rtol=1e-9)


def test_whole_numbers_that_a_double_rounds_together_have_no_variance() -> None:
    near = np.arange(1_000)
    assert np.isnan(sketch_of([[]], 2**62 + near, [2.0**62]).variance).all()
    wide = sketch_of([[]], 2**62 + 2**20 * near, [2.0**62])
    np.testing.assert_allclose(wide.variance, (2.0**20 * near).var(ddof=1), rtol=1e-3)


def right_or_none(at: Any, widths: npt.NDArray[Any], shift: float, rtol: float) -> None:
    for width in widths:
        values = at + width * (np.arange(1_000) * 617 % 1_000)
        found = sketch_of([[]], values, [shift]).variance[0]
        if np.isfinite(found):
            np.testing.assert_allclose(found, (values - at).astype(np.float64).var(ddof=1), rtol=rtol)


def test_a_variance_is_right_or_none() -> None:
    right_or_none(1.0, np.geomspace(1e-2, 1e-8, 25), 0.0, 1e-6)
    for at in (2**54, 2**58, 2**62):
        right_or_none(at, 2 ** np.arange(12), float(at), 1e-3)


def test_squares_of_large_floats_do_not_overflow() -> None:
    values = np.full((100, 9), 3e38, np.float32)
    np.testing.assert_allclose(sketch_of([[]] * 9, values, [-3e38] * 9).mean, float(values[0, 0]), rtol=1e-12)
    assert np.isfinite(sketch_of([[]] * 9, values).m2).all()


def test_readers_give_fresh_arrays() -> None:
    sketch = sketch_of([[0.0]], np.ones(3))
    for name in ("counts", "offsets", "missing", "mean", "m2", "variance", "minimum", "maximum"):
        getattr(sketch, name)[:] = 77
        assert 77 not in getattr(sketch, name)
    sketch.reset()
    assert sketch.rows == 0 and sketch.counts.tolist() == [0, 0] and np.isnan(sketch.mean).all()


def test_memory_a_feature() -> None:
    """400 bytes beside the counts and what is still to be added to them."""
    sketch = sketch_of([np.linspace(-2, 2, 17)] * 1000, np.zeros((2, 1000), np.float32))
    most = 400 + 18 * 8 + 17 * 4
    assert most - 50 < sketch.nbytes / 1000 <= most


@pytest.mark.parametrize(
    "values",
    [
        np.frombuffer(bytes(17), np.uint8)[1:].view(np.float32).reshape(2, 2),
        np.ones((2, 2), [("a", np.float32)]),
        np.broadcast_to(np.float32(1), (2, 2)),
        np.ones((2, 2), np.longdouble),
    ],
)
def test_memory_that_is_not_plain_numbers(values: Any) -> None:
    sketch = NumberSketch([[0.0]] * 2)
    with pytest.raises(ValueError, match="values must be"):
        sketch.update(values)
    assert sketch.rows == 0 and sketch.counts.sum() == 0


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(1, 40))
def test_the_mean_lies_between_the_extremes(value: float, shift: float, rows: int) -> None:
    """Of equal values it is that value, and not one in the last place beside it."""
    sketch = sketch_of([[]], np.full((rows, 1), value), [shift])
    assert sketch.mean[0] == sketch.minimum[0] == sketch.maximum[0] == value
    assert sketch.m2[0] >= 0


def test_a_mean_that_no_double_holds_is_not_made_up() -> None:
    sketch = sketch_of([[]], np.array([[1.7e308], [1.7e308], [-1e308]]))
    assert not np.isfinite([sketch.mean[0], sketch.m2[0], sketch.variance[0]]).any()
