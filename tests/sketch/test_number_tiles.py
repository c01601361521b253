"""float32 rows that are counted in tiles: the counts are those of any other way, wherever values and edges lie."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_core.sketch import NumberSketch
from fastserve_core.sketch.number import set_vector_level
from tests.sketch import twin_number

pytestmark = pytest.mark.usefixtures("level")

Column = npt.NDArray[np.float32]
TILE = 128
KINDS = (
    "normal", "far", "lognormal", "whole", "few", "constant", "one-sided", "wide", "tiny", "noughts", "missing", "holes", "endless", "at edges", "mostly whole",
)  # fmt: skip


def column(rng: np.random.Generator, kind: str, rows: int) -> Column:
    """Values of one feature."""
    normal = rng.standard_normal(rows)
    values = {
        "far": 1e6 + normal,
        "lognormal": np.exp(2 * normal),
        "whole": rng.integers(-3, 30, rows).astype(float),
        "few": rng.choice([0.0, 1.0], rows),
        "constant": np.full(rows, 7.25),
        "one-sided": np.where(np.arange(rows) % 300 < 150, np.abs(normal), -50.0),
        "wide": normal * rng.choice([1.0, 1e6, 1e38], rows, p=[0.98, 0.015, 0.005]),
        "tiny": normal * 1e-41,
        "noughts": rng.choice([0.0, -0.0, 1e-45, -1e-45], rows),
    }.get(kind, normal)
    with np.errstate(over="ignore"):
        found: Column = values.astype(np.float32)
    if kind == "missing":
        odd = rng.random(rows) < rng.choice([0.001, 0.05])
        found[odd] = rng.choice(np.array([np.nan, np.inf, -np.inf], np.float32), odd.sum())
    elif kind == "mostly whole":
        found = rng.integers(0, 12, rows).astype(np.float32)
        odd = rng.random(rows) < 0.001
        found[odd] = np.nextafter(found[odd], rng.choice(np.array([-np.inf, np.inf], np.float32), odd.sum()))
    elif kind == "holes":
        found[rng.random(rows) < rng.choice([0.001, 0.1, 0.9, 1.0])] = np.nan
    elif kind == "endless":
        found[rng.random(rows) < 0.3] = rng.choice(np.array([-np.inf, np.inf], np.float32))
    return found


def edges_of(rng: np.random.Generator, values: Column, number: int, how: str) -> npt.NDArray[np.float64]:
    """At quantiles, at equal distances, or a few of them an ulp apart."""
    finite = values[np.isfinite(values)].astype(float)
    if how == "even" or not finite.size:
        return np.linspace(-2, 2, number)
    chosen = np.quantile(finite, np.linspace(0, 1, number)) if number else np.zeros(0)
    if how == "values":
        chosen = rng.choice(finite, number)
    elif how == "close" and number:
        chosen[: number // 2] = chosen[0] + np.arange(number // 2) * max(abs(chosen[0]), 1e-30) * 1e-7
    return np.unique(chosen + 0.0)


def beside(rng: np.random.Generator, values: Column, edges: npt.NDArray[np.float64]) -> None:
    """Puts values on edges and next to them."""
    if not edges.size:
        return
    at = rng.random(len(values)) < rng.choice([0.01, 0.5])
    exact = rng.choice(edges, at.sum()).astype(np.float32)
    other = np.nextafter(exact, rng.choice(np.array([-np.inf, np.inf], np.float32), at.sum()))
    values[at] = np.where(rng.random(at.sum()) < 0.5, exact, other)


def check(
    sketch: NumberSketch, values: npt.NDArray[np.float32], edges: Any, shifts: Any, picked: Any
) -> None:
    """Of some features everything is the twin's; moments to what is left of float64."""
    counts, offsets = sketch.counts, sketch.offsets
    assert sketch.rows == len(values)
    for f in picked:
        with np.errstate(over="ignore"):
            (twin,) = twin_number.sketch(values[:, f : f + 1], [edges[f]])
        assert counts[offsets[f] : offsets[f + 1]].tolist() == twin.counts
        assert sketch.missing[f] == twin.missing
        assert sketch.negative_infinite[f] == twin.negative and sketch.positive_infinite[f] == twin.positive
        np.testing.assert_array_equal(sketch.minimum[f], twin.minimum)
        np.testing.assert_array_equal(sketch.maximum[f], twin.maximum)
        finite = values[:, f][np.isfinite(values[:, f])].astype(float)
        most = float(np.abs(finite).max(initial=abs(shifts[f])))
        np.testing.assert_allclose(sketch.mean[f], twin.mean, rtol=1e-12, atol=1e-12 * most)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_wherever_values_and_edges_lie(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    features = data.draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 70]))
    most = 2 * TILE + 44 if features >= 8 else TILE * 9
    near = [TILE - 1, TILE, TILE + 1, 2 * TILE - 1, 2 * TILE, 2 * TILE + 1, 300]
    rows = data.draw(st.one_of(st.integers(1, most), st.sampled_from(near)))
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    how = data.draw(st.sampled_from(["quantiles", "quantiles", "even", "values", "close"]))
    number = data.draw(st.integers(2, 18))
    fewer = data.draw(st.booleans())
    values = np.empty((rows, features), np.float32)
    edges, shifts = [], []
    for f in range(features):
        kind = kinds[f % len(kinds)]
        values[:, f] = column(rng, kind, rows)
        edges.append(edges_of(rng, values[:, f], number - f % 3 * fewer, how))
        if kind == "at edges":
            beside(rng, values[:, f], edges[f])
        middle = edges[f][len(edges[f]) // 2] if edges[f].size else 0.0
        shifts.append(float(middle) if data.draw(st.booleans()) else 0.0)
    sketch = NumberSketch(edges, shifts)
    sketch.update(values)
    check(sketch, values, edges, shifts, rng.choice(features, min(features, 4), replace=False))
    before = set_vector_level("baseline")
    plain = NumberSketch(edges, shifts)
    plain.update(values)
    set_vector_level(before)
    assert sketch.counts.tolist() == plain.counts.tolist()


@pytest.mark.parametrize("number", [7, 14, 15, 16, 17])
@pytest.mark.parametrize("rows", [TILE, 15 * TILE, 16 * TILE + 5, 40 * TILE])
def test_more_tiles_than_are_counted_at_once(number: int, rows: int) -> None:
    rng = np.random.default_rng(rows)
    values = rng.standard_normal((rows, 70), np.float32)
    edges = [np.quantile(values[:, f].astype(float), np.linspace(0, 1, number)) for f in range(70)]
    sketch = NumberSketch(edges)
    for _ in range(3):
        sketch.update(values)
    for f in range(70):
        placed = np.searchsorted(edges[f], values[:, f].astype(float), side="left")
        mine = sketch.counts[sketch.offsets[f] : sketch.offsets[f + 1]]
        assert mine.tolist() == (3 * np.bincount(placed, minlength=number + 1)).tolist()
    assert (sketch.minimum == values.min(axis=0)).all() and (sketch.maximum == values.max(axis=0)).all()


@pytest.mark.parametrize("number", [9, 15, 16, 17])
@pytest.mark.parametrize("close", [0.0, 1e-6, 0.02, 0.05])
def test_every_edge_and_the_floats_beside_it(number: int, close: float) -> None:
    """Two a tile, so that it is not left to the other way; two edges lie `close`, all other rows are of one bin."""
    edges = np.linspace(-3, 4, number) + 0.1
    if close:
        edges[5] = edges[4] + close
    low = edges.astype(np.float32)
    low = np.where(low > edges, np.nextafter(low, np.float32(-np.inf)), low)
    pairs = np.stack([low, np.nextafter(low, np.float32(np.inf))], axis=1)
    between = np.linspace(edges[4], edges[5], 20, dtype=np.float32).reshape(10, 2)
    values = np.full((40, TILE, 32), 2.0, np.float32)
    column = np.concatenate([pairs, between])
    values[: len(column), 50:52] = column[:, :, None]
    rows = values.reshape(-1, 32)
    sketch = NumberSketch([edges] * 32)
    sketch.update(rows)
    placed = np.searchsorted(edges, rows[:, 0].astype(float), side="left")
    assert sketch.counts.tolist() == np.bincount(placed, minlength=number + 1).tolist() * 32


@pytest.mark.parametrize("number", [8, 12, 16, 17])
def test_whole_numbers_on_edges_and_some_that_are_not_whole(number: int) -> None:
    """Lanes of whole numbers are laid out otherwise: what comes between is seen, and they go on afterwards."""
    rng = np.random.default_rng(number)
    most = np.arange(number, dtype=float) * 3
    edges = [most[: number - 2 * (f % 3)] for f in range(16)]
    values = rng.integers(-2, 3 * number, (60 * TILE, 16)).astype(np.float32)
    values[:, 8:] = np.maximum(values[:, 8:], 3)  # none at or below the first edge
    values[:, 5] += np.float32(0.5)
    values[::9, 6] = np.nan
    above = np.nextafter(most.astype(np.float32), np.float32(np.inf))
    for tile in (10, 11, 12, 30, 45):
        values[tile * TILE : tile * TILE + number, tile % 4] = above
    values[50 * TILE + 3, 2] = np.inf
    sketch = NumberSketch(edges)
    for start in range(0, len(values), 4 * TILE):
        sketch.update(values[start : start + 4 * TILE])
    check(sketch, values, edges, [0.0] * 16, range(16))


@pytest.mark.parametrize(
    ("first", "last"), [(-1e300, 3.0), (-3.4e38, 3.4e38), (-3.0, 1e300), (-1e300, 1e300)]
)
@pytest.mark.parametrize("number", [8, 16, 17])
def test_edges_at_and_beyond_the_ends_of_float32(first: float, last: float, number: int) -> None:
    rng = np.random.default_rng(number)
    values = rng.standard_normal((6 * TILE, 8), np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, 3.4028235e38, -3.4028235e38], np.float32)
    for tile in range(2, 6):
        values[tile * TILE + rng.integers(0, TILE, 8), np.arange(8)] = rng.choice(odd, 8)
    edges = [np.array([first, *np.linspace(-2, 2, number - 2), last])] * 8
    sketch = NumberSketch(edges)
    with np.errstate(over="ignore"):
        sketch.update(values)
    check(sketch, values, edges, [0.0] * 8, [0, 5])


@pytest.mark.parametrize("middle", [0.5, 3.0, -40.0, 1e6])
def test_values_that_are_missing_leave_sums_around_a_shift_alone(middle: float) -> None:
    rng = np.random.default_rng(5)
    values = (middle + rng.standard_normal((4 * TILE, 8))).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    edges = [np.linspace(middle - 2, middle + 2, 12)] * 8
    sketch = NumberSketch(edges, [middle] * 8)
    sketch.update(values)
    check(sketch, values, edges, [middle] * 8, [0, 7])
    np.testing.assert_allclose(sketch.variance, np.nanvar(values.astype(float), axis=0, ddof=1), rtol=1e-9)


@pytest.mark.parametrize("at", [1e9, -1e9, 1e15])
def test_values_far_from_their_edges_and_near_their_shift(at: float) -> None:
    values = (at * (1 + 1e-7 * np.random.default_rng(3).standard_normal((4 * TILE, 8)))).astype(np.float32)
    edges = [np.linspace(-2, 2, 12)] * 8
    sketch = NumberSketch(edges, [at] * 8)
    sketch.update(values)
    check(sketch, values, edges, [at] * 8, [3])


def test_a_tile_that_cannot_be_counted_by_bytes_changes_no_other() -> None:
    rng = np.random.default_rng(8)
    values = rng.standard_normal((100 * TILE, 8), np.float32)
    edges = [np.linspace(-2, 2, 17)] * 8
    for tile, odd in enumerate([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e9, np.nan] * 5):
        values[tile * 2 * TILE + tile, tile % 8] = odd
    sketch = NumberSketch(edges)
    sketch.update(values)
    check(sketch, values, edges, [0.0] * 8, range(8))


@pytest.mark.parametrize(("middle", "spread"), [(0.0, 1.0), (1e6, 1.0), (-3.0, 1e-6), (0.0, 1e30)])
def test_moments_are_sums_of_doubles(middle: float, spread: float) -> None:
    rng = np.random.default_rng(9)
    values = (middle + spread * rng.standard_normal((50 * TILE, 9))).astype(np.float32)
    wide = values.astype(np.float64)
    edges = [np.quantile(wide[:, f], np.linspace(0.01, 0.99, 15)) for f in range(9)]
    sketch = NumberSketch([np.unique(each) for each in edges], [middle] * 9)
    sketch.update(values)
    np.testing.assert_allclose(
        (sketch.mean - wide.mean(axis=0)) / spread, 0, atol=1e-9 * max(1, abs(middle) * 1e-6)
    )
    np.testing.assert_allclose(sketch.variance, wide.var(axis=0, ddof=1), rtol=1e-9)
