"""NumberSketch against its twin: every dtype, shape and odd value; parts merge to the whole; bytes are checked."""

import itertools
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_core.sketch import NumberSketch
from fastserve_core.sketch.number import MAX_COUNTS
from tests.sketch import twin_number

pytestmark = pytest.mark.usefixtures("level")

Edges = list[npt.NDArray[np.float64]]
FLOATS = ["f4", "f8"]
WHOLE = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 5e-324, 3.4e38, -3.4e38, 1.0, 1.0000001, -1.5, 1e6]


def check(sketch: NumberSketch, values: npt.NDArray[Any], edges: Edges, rel: float = 1e-9) -> None:
    values = values.reshape(len(values), len(edges))
    twin = twin_number.sketch(values, edges)
    scale = np.maximum(
        1e-100, np.nan_to_num(np.abs(values.astype(float)), posinf=0.0).max(axis=0, initial=0.0)
    )
    assert sketch.rows == len(values)
    assert sketch.missing.tolist() == [t.missing for t in twin]
    assert sketch.negative_infinite.tolist() == [t.negative for t in twin]
    assert sketch.positive_infinite.tolist() == [t.positive for t in twin]
    assert sketch.counts.tolist() == list(itertools.chain(*(t.counts for t in twin)))
    exact = 3e-16 if values.dtype.itemsize == 8 and values.dtype.kind in "iu" else 0.0  # doubles hold 53 bits
    np.testing.assert_allclose(sketch.minimum, [t.minimum for t in twin], rtol=exact)
    np.testing.assert_allclose(sketch.maximum, [t.maximum for t in twin], rtol=exact)
    np.testing.assert_allclose(sketch.mean / scale, [t.mean for t in twin] / scale, rtol=rel, atol=rel)
    if scale.max() < 1e100:
        size = scale**2 * max(1, len(values))
        np.testing.assert_allclose(sketch.m2 / size, [t.m2 for t in twin] / size, rtol=rel, atol=rel)


@st.composite
def tables(draw: st.DrawFn) -> tuple[npt.NDArray[Any], Edges]:
    """Values of any dtype, often equal to an edge, and edges of any number."""
    features = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 9, 33]))
    rows = draw(st.sampled_from([0, 1, 2, 7, 8, 9, 31, 130]))
    dtype: np.dtype[Any] = np.dtype(draw(st.sampled_from(FLOATS + WHOLE)))
    values: npt.NDArray[Any]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "f":
        values = (rng.standard_normal((rows, features)) * 10 ** float(rng.integers(-3, 4))).astype(dtype)
        odd = rng.random((rows, features)) < draw(st.sampled_from([0.0, 0.05, 0.9]))
        values[odd] = rng.choice(np.array(ODD), odd.sum()).astype(dtype)
    elif dtype.kind == "b":
        values = np.array(rng.random((rows, features)) < 0.5, dtype)
    else:
        low, high = np.iinfo(dtype.str).min, np.iinfo(dtype.str).max
        values = rng.integers(low, high, (rows, features), dtype, endpoint=True)
        small = rng.random((rows, features)) < 0.5
        values[small] = rng.integers(0, 9, small.sum(), dtype)
    edges = []
    for f in range(features):
        some = np.concatenate([rng.standard_normal(draw(st.sampled_from([0, 1, 3, 17, 80]))), [0.0, 1.0]])
        seen = values[:, f].astype(float)
        some = np.concatenate([some, seen[np.isfinite(seen)][:5]])
        edges.append(np.unique(some[rng.random(len(some)) < 0.9]))
    return values, edges


@given(tables())
def test_it_counts_as_its_twin_does(table: tuple[npt.NDArray[Any], Edges]) -> None:
    values, edges = table
    sketch = NumberSketch(edges)
    sketch.update(values)
    check(sketch, values, edges)


@given(tables(), st.integers(1, 16), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_whole(
    table: tuple[npt.NDArray[Any], Edges], parts: int, random: Any
) -> None:
    values, edges = table
    shifts = [
        float(np.nan_to_num(values[:1, f].astype(float), posinf=0, neginf=0).sum()) for f in range(len(edges))
    ]
    shifts = [shift if abs(shift) < 1e6 else 0.0 for shift in shifts]
    pieces = []
    for piece in np.array_split(values, parts):
        one = NumberSketch(edges, shifts)
        one.update(np.ascontiguousarray(piece))
        pieces.append(one.take())
        assert one.rows == 0
    random.shuffle(pieces)
    whole = NumberSketch(edges, shifts)
    for state in pieces:
        whole.merge_bytes(state)
    check(whole, values, edges)


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE])
@pytest.mark.parametrize("features", [1, 2, 4, 7, 32, 2000])
def test_many_rows_of_every_dtype(dtype: str, features: int) -> None:
    rng = np.random.default_rng(features)
    rows = 1_500 if features < 2000 else 40
    values = (rng.standard_normal((rows, features)) * 50).astype(dtype)
    edges = [
        np.unique(np.quantile(values[:, f].astype(float), np.linspace(0, 1, 17))) for f in range(features)
    ]
    sketch = NumberSketch(edges)
    sketch.update(values)
    for f in range(0, features, max(1, features // 5)):
        placed = np.searchsorted(edges[f], values[:, f].astype(float), side="left")
        mine = sketch.counts[sketch.offsets[f] : sketch.offsets[f + 1]]
        assert mine.tolist() == np.bincount(placed, minlength=len(edges[f]) + 1).tolist()
        np.testing.assert_allclose(sketch.mean[f], values[:, f].astype(float).mean(), rtol=1e-9, atol=1e-9)


def test_whole_numbers_beyond_what_doubles_hold_are_placed_exactly() -> None:
    edge = float(2**53)
    for dtype, values in (
        ("i8", [2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
        ("u8", [2**53, 2**53 + 1, 2**63 + 1, 2**64 - 1, 0]),
    ):
        array = np.array(values, dtype)
        sketch = NumberSketch([[edge]])
        for copies in (1, 20):
            sketch.reset()
            sketch.update(np.tile(array, copies))
            above = sum(value > 2**53 for value in values)
            assert sketch.counts.tolist() == [(len(values) - above) * copies, above * copies]


@pytest.mark.parametrize("odd", [1e6, 3e38, np.nan, np.inf, -np.inf])
def test_one_odd_value_moves_no_other_row(odd: float) -> None:
    values = np.random.default_rng(1).standard_normal((4096, 32), dtype=np.float32)
    edges = [np.linspace(-2, 2, 17)] * 32
    clean, spoilt = NumberSketch(edges), NumberSketch(edges)
    clean.update(np.delete(values, 777, axis=0))
    values[777] = odd
    spoilt.update(values)
    difference = (spoilt.counts - clean.counts).reshape(32, 18)
    assert (difference >= 0).all()
    assert difference.sum(axis=1).tolist() == [0 if np.isnan(odd) else 1] * 32
    if not np.isfinite(odd):
        np.testing.assert_allclose(spoilt.mean, clean.mean, rtol=1e-12)


def test_a_shift_keeps_what_lies_far_from_nought() -> None:
    values = 1e9 + np.random.default_rng(2).standard_normal(10_000)
    sketch = NumberSketch([[]], [1e9])
    sketch.update(values)
    assert sketch.m2[0] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-9)
    assert sketch.mean[0] == pytest.approx(values.mean(), rel=1e-15)


def test_shapes_that_hold_as_many_values_a_row_are_taken() -> None:
    sketch = NumberSketch([[0.0]] * 6)
    sketch.update(np.ones((4, 2, 3), np.float32))
    assert (sketch.rows, sketch.counts.tolist()) == (4, [0, 4] * 6)
    read_only = np.ones((3, 6))
    read_only.flags.writeable = False
    sketch.update(read_only)
    assert sketch.rows == 7


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.ones((2, 5)), "shape"),
        (np.ones(6), "shape"),
        (np.array(1.0), "shape"),
        (np.ones((6, 2)).T, "C-contiguous"),
        (np.ones((2, 12))[:, ::2], "C-contiguous"),
        (np.ones((2, 6)).astype(">f8"), "native"),
        (np.ones((2, 6), np.float16), "float16"),
        (np.ones((2, 6), complex), "complex"),
        (np.full((2, 6), "x", object), "object"),
        (np.zeros((2, 6), "M8[s]"), "datetime"),
    ],
)
def test_other_arrays_are_refused_and_counted_nowhere(values: Any, error: str) -> None:
    sketch = NumberSketch([[0.0]] * 6)
    with pytest.raises(ValueError, match=error):
        sketch.update(values)
    assert sketch.rows == 0
    with pytest.raises(TypeError):
        sketch.update([[1.0] * 6])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("edges", "shifts", "error"),
    [
        ([], None, "at least one"),
        ([[1.0, 1.0]], None, "rise"),
        ([[2.0, 1.0]], None, "rise"),
        ([[0.0], [np.nan]], None, "feature 1: edges must be finite"),
        ([[np.inf]], None, "finite"),
        ([[[1.0]]], None, "one dimension"),
        ([[1.0]], [1.0, 2.0], "2 shifts for 1"),
        ([[1.0]], [np.nan], "shift must be finite"),
        ([np.arange(MAX_COUNTS + 1)], None, "counts"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(edges: Any, shifts: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        NumberSketch(edges, shifts)


def filled() -> NumberSketch:
    sketch = NumberSketch([[0.0, 1.0], [], [5.0]], [0.0, 1.0, 2.0])
    sketch.update(np.random.default_rng(3).standard_normal((50, 3)))
    return sketch


def test_bytes_come_back_the_same_and_are_small() -> None:
    sketch, other = filled(), NumberSketch([[0.0, 1.0], [], [5.0]], [0.0, 1.0, 2.0])
    other.merge(sketch)
    assert other.to_bytes() == sketch.to_bytes()
    assert len(sketch.to_bytes()) == 30 + 8 + 3 * 56 + 8 * 6


@given(st.data())
def test_harmed_bytes_are_refused_or_agree_with_themselves(data: st.DataObject) -> None:
    state = bytearray(filled().to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        state[data.draw(st.integers(0, len(state) - 1))] = data.draw(st.integers(0, 255))
    state = state[: data.draw(st.sampled_from([len(state), len(state) - 1, 29, 3, 0]))]
    sketch = filled()
    before = sketch.to_bytes()
    try:
        sketch.merge_bytes(state)
    except ValueError:
        assert sketch.to_bytes() == before
    else:
        for f in range(3):
            mine = sketch.counts[sketch.offsets[f] : sketch.offsets[f + 1]]
            assert mine.sum() + sketch.missing[f] == sketch.rows


@pytest.mark.parametrize("edges", [[[0.0, 1.5], [], [5.0]], [[0.0, 1.0], []], [[0.0], [1.0], [5.0]]])
def test_another_plan_is_not_merged(edges: Any) -> None:
    with pytest.raises(ValueError, match="other features, edges or shifts"):
        NumberSketch(edges).merge(filled())
    with pytest.raises(TypeError):
        filled().merge_bytes("text")  # type: ignore[arg-type]


def test_sums_around_another_shift_are_not_merged() -> None:
    with pytest.raises(ValueError, match="other features, edges or shifts"):
        NumberSketch([[1.0]], [0.5]).merge(NumberSketch([[1.0]], [0.25]))


NEGATIVE, MOST, INF = -1, 2**63 - 1, math.inf


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({0: 5}, ""),
        *[({word: NEGATIVE}, "negative") for word in (0, 1, 3, 5, 15, 16, 17)],
        ({15: 0}, "do not agree"),
        ({15: 3}, "do not agree"),
        ({1: MOST, 15: MOST, 16: 7}, "do not agree"),  # 5 rows, but for 64 bits
        ({3: 3}, "do not agree"),  # more at an end than in its bin
        ({5: 3}, "do not agree"),
        ({4: 3, 6: 3}, "do not agree"),  # more at both ends than in their one bin
        ({6: 5}, "do not agree"),  # extremes of no value
        ({6: 5, 12: INF, 14: -INF}, ""),
        ({6: 5, 12: INF, 14: 2.0}, "do not agree"),
        ({6: 5, 12: 0.0, 14: -INF}, "do not agree"),
        ({11: INF, 13: -INF}, "do not agree"),  # values without extremes
        ({11: -INF}, "do not agree"),
        ({13: INF}, "do not agree"),
        ({11: math.nan}, "do not agree"),
        ({11: 3.0}, "do not agree"),
    ],
)
def test_words_of_a_state_that_contradict_each_other_are_refused(changes: dict[int, Any], error: str) -> None:
    """Rows; missing, -inf, +inf, sum, squares, least and most of both features; the counts of three bins."""
    sketch = NumberSketch([[1.0], []])
    sketch.update(np.array([[0.0, 0.0], [0.0, 0.0], [2.0, 2.0], [2.0, 2.0], [math.nan, INF]]))
    before = sketch.to_bytes()
    state = bytearray(before)
    for word, value in changes.items():
        struct.pack_into("<d" if isinstance(value, float) else "<q", state, 30 + 8 * word, value)
    if not error:
        sketch.merge_bytes(state)
        assert sketch.rows == 10
        return
    with pytest.raises(ValueError, match=error):
        sketch.merge_bytes(state)
    assert sketch.to_bytes() == before


def test_more_rows_than_can_be_counted_are_refused() -> None:
    state = bytearray(NumberSketch([[]]).to_bytes())
    most = (2**63 - 1).to_bytes(8, "little")
    state[30:38] = state[-8:] = most
    state[-24:-8] = struct.pack("<dd", 1.0, 1.0)  # the least and the most of so many
    sketch = NumberSketch([[]])
    sketch.merge_bytes(bytes(state))
    assert sketch.rows == 2**63 - 1
    with pytest.raises(ValueError, match="rows"):
        sketch.merge_bytes(bytes(state))
    with pytest.raises(ValueError, match="rows"):
        sketch.update(np.ones(3))
    assert sketch.rows == 2**63 - 1


def test_threads_share_a_sketch() -> None:
    values = np.random.default_rng(4).standard_normal((1000, 8), dtype=np.float32)
    sketch, taken = NumberSketch([[0.0]] * 8), []

    def work(_: int) -> None:
        for _ in range(50):
            sketch.update(values)
            taken.append(sketch.take())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for state in taken:
        sketch.merge_bytes(state)
    assert sketch.rows == 200_000
    assert (sketch.counts.reshape(8, 2).sum(axis=1) == 200_000).all()
