"""Distances from counts: equal to SciPy's and to their definitions, feature by feature; hostile arguments."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastserve_core.distance import Distances, distances
from tests.distance import exact

stats: Any = pytest.importorskip("scipy.stats", reason="SciPy is what the distances are compared with")
spatial: Any = pytest.importorskip("scipy.spatial.distance", reason="SciPy is what they are compared with")

NAMES = [name for name in Distances._fields if name not in ("psi", "degrees")]
Pair = tuple[list[int], list[int]]
LARGEST = 2**63 - 1


@st.composite
def histograms(draw: st.DrawFn, largest: int = 10_000, least_bins: int = 1) -> tuple[list[int], list[int]]:
    """Counts of reference and live over the same bins, neither side empty."""
    bins = draw(st.integers(least_bins, 12))
    side = st.lists(st.integers(0, largest) | st.just(0), min_size=bins, max_size=bins).filter(any)
    return draw(side), draw(side)


@st.composite
def boundaries(draw: st.DrawFn, bins: int, *, distinct: bool = False) -> list[float]:
    value = st.integers(-1000, 1000).map(lambda x: x / 8)
    return sorted(draw(st.lists(value, min_size=bins + 1, max_size=bins + 1, unique=distinct)))


def int64(values: Any) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def one(reference: list[int], live: list[int], edges: list[float] | None = None, **options: Any) -> Distances:
    """Distances of a single feature."""
    bounds = None if edges is None else np.array(edges)
    return distances(int64(reference), int64(live), int64([0, len(reference)]), bounds, **options)


# -- agreement ----------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(histograms(), st.sampled_from([1e-4, 1e-6, 0.01]))
def test_psi_follows_its_definition(counts: Pair, epsilon: float) -> None:
    found = one(*counts, epsilon=epsilon)
    raw = exact.psi_raw(*counts, epsilon)
    drop = (len(counts[0]) - 1) * (1 / sum(counts[0]) + 1 / sum(counts[1]))
    assert found.psi_raw[0] == pytest.approx(raw, rel=1e-11, abs=1e-15)
    assert found.psi[0] == pytest.approx(raw - drop, rel=1e-11, abs=1e-14)


@settings(max_examples=50)
@given(histograms())
def test_jensen_shannon_is_scipys(counts: Pair) -> None:
    found = one(*counts).jensen_shannon[0]
    # Squares: near 0 SciPy's own sum of two terms that cancel is off by some 1e-16, and may be below 0.
    with np.errstate(invalid="ignore"):
        theirs = np.nan_to_num(spatial.jensenshannon(*counts, base=2))
    assert found**2 == pytest.approx(theirs**2, rel=1e-11, abs=1e-15)
    assert 0 <= found <= 1 + 1e-15


def test_jensen_shannon_of_tiny_differences_keeps_its_digits() -> None:
    rows, moved = 10**15, 1000
    found = one([rows + moved, rows - moved], [rows - moved, rows + moved]).jensen_shannon[0]
    d = moved / rows  # to second order, JS^2 = d^2 / (2 ln 2)
    assert found == pytest.approx(d / np.sqrt(2 * np.log(2)), rel=1e-3)


@settings(max_examples=50)
@given(histograms())
def test_hellinger_and_total_variation_follow_their_definitions(counts: Pair) -> None:
    found = one(*counts)
    assert found.hellinger[0] == pytest.approx(exact.hellinger(*counts), rel=1e-9, abs=1e-12)
    assert found.total_variation[0] == pytest.approx(exact.total_variation(*counts), rel=1e-12, abs=1e-15)


@settings(max_examples=50)
@given(histograms(largest=40), st.data())
def test_kolmogorov_smirnov_is_scipys(counts: Pair, data: st.DataObject) -> None:
    edges = data.draw(boundaries(len(counts[0]), distinct=True))
    samples = [np.repeat(edges[:-1], side) for side in counts]
    with np.errstate(all="ignore"):  # of the p-value of a handful of values, which is not asked for
        theirs = stats.ks_2samp(*samples, method="asymp").statistic
    assert one(*counts, edges).kolmogorov_smirnov[0] == pytest.approx(theirs, rel=1e-12, abs=1e-15)
    assert exact.kolmogorov_smirnov(*counts) == pytest.approx(theirs, rel=1e-12, abs=1e-15)


@settings(max_examples=50)
@given(histograms(), st.data())
def test_wasserstein_of_values_is_scipys(counts: Pair, data: st.DataObject) -> None:
    edges = data.draw(boundaries(len(counts[0])))
    theirs = stats.wasserstein_distance(edges[:-1], edges[:-1], *counts)
    assert one(*counts, edges, steps=True).wasserstein[0] == pytest.approx(theirs, rel=1e-11, abs=1e-12)


@settings(max_examples=50)
@given(histograms(), st.data())
def test_wasserstein_of_bins_is_the_exact_integral(counts: Pair, data: st.DataObject) -> None:
    edges = data.draw(boundaries(len(counts[0])))
    found = one(*counts, edges).wasserstein[0]
    assert found == pytest.approx(exact.wasserstein(*counts, edges), rel=1e-11, abs=1e-12)


def test_wasserstein_sees_a_crossing_inside_a_bin() -> None:
    # F - G runs from -1/2 to 1/2 over the middle bin: two triangles, 2 · (1/2 · 1/2 · 1/2).
    assert one([0, 4, 0], [2, 0, 2], [0.0, 1.0, 2.0, 3.0]).wasserstein[0] == 0.25 + 0.25 + 0.25


@settings(max_examples=50)
@given(histograms(least_bins=2))
def test_chi_square_is_scipys(counts: Pair) -> None:
    found = one(*counts)
    table = int64(counts)
    table = table[:, table.sum(axis=0) > 0]
    assert found.degrees.tolist() == [table.shape[1] - 1]
    if table.shape[1] > 1:
        theirs = stats.chi2_contingency(table, correction=False)
        assert found.chi_square[0] == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-11)
        assert found.degrees[0] == theirs.dof
    else:
        assert found.chi_square[0] == 0


@settings(max_examples=50)
@given(histograms(), st.integers(1, 1000))
def test_equal_shapes_are_at_distance_0_exactly(counts: Pair, times: int) -> None:
    edges = [float(i) for i in range(len(counts[0]) + 1)]
    found = one(counts[0], [times * count for count in counts[0]], edges)
    assert [float(getattr(found, name)[0]) for name in NAMES] == [0.0] * len(NAMES)


# -- many features ------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(histograms() | st.just(([], [])) | st.just(([0], [3])), max_size=8), st.booleans())
def test_many_features_are_one_at_a_time(features: Any, steps: bool) -> None:
    sizes = [len(reference) for reference, _ in features]
    offsets = int64([0, *np.cumsum(sizes)])
    edges = [[float(j * j) for j in range(size + 1)] for size in sizes]
    together = distances(
        int64([count for reference, _ in features for count in reference]),
        int64([count for _, live in features for count in live]),
        offsets,
        np.array([edge for each in edges for edge in each], np.float64),
        steps=steps,
    )
    for f, (reference, live) in enumerate(features):
        for name, value in one(reference, live, edges[f], steps=steps)._asdict().items():
            np.testing.assert_array_equal(getattr(together, name)[f], value[0])
    assert all(value.shape == (len(features),) for value in together)


def test_large_plans_run_beside_other_threads() -> None:
    counts = np.arange(1, 100_001)
    offsets = np.arange(0, 100_001, 10)
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: distances(counts, counts[::-1].copy(), offsets), range(3))
    for other in others:
        for left, right in zip(first, other, strict=True):
            np.testing.assert_array_equal(left, right)


# -- the edges of the domain --------------------------------------------------------------------------------


def test_without_edges_bins_have_no_order() -> None:
    found = one([1, 2], [2, 1])
    assert np.isnan(found.kolmogorov_smirnov).all() and np.isnan(found.wasserstein).all()
    assert not np.isnan(found.psi).any()


@pytest.mark.parametrize(
    ("reference", "live"), [([0, 0], [1, 2]), ([1, 2], [0, 0]), ([0, 0], [0, 0]), ([], [])]
)
def test_an_empty_side_makes_everything_nan(reference: list[int], live: list[int]) -> None:
    found = one(reference, live, [float(i) for i in range(len(reference) + 1)])
    assert all(np.isnan(value).all() for value in found[:-1])
    assert found.degrees.tolist() == [0]


def test_one_bin_is_no_drift() -> None:
    found = one([7], [3], [1.0, 2.0])
    assert [float(value[0]) for value in found] == [0.0] * 9


def test_sums_up_to_64_bits_count() -> None:
    found = one([LARGEST - 1, 1], [1, LARGEST - 1], [0.0, 1.0, 2.0])
    assert found.total_variation[0] == pytest.approx(1)
    assert all(np.isfinite(value).all() for value in found)


def test_boundaries_as_far_apart_as_doubles_go() -> None:
    far = [-1.7e308, 0.0, 1.7e308]
    assert one([1, 1], [1, 1], far).wasserstein[0] == 0
    assert one([3, 1], [1, 1], far).wasserstein[0] == pytest.approx(1.7e308 / 4)
    assert (
        one([3], [1], [-1.7e308, 1.7e308]).wasserstein[0] == 0
    )  # a width that is infinite, and no mass moved
    assert one([1, 1], [1, 1], [-1.7e308, 1.7e308, 1.7e308], steps=True).wasserstein[0] == 0


def test_no_features_are_no_distances() -> None:
    assert [value.size for value in distances(int64([]), int64([]), int64([0]), np.array([]))] == [0] * 9


def test_distances_are_a_plain_tuple_of_arrays() -> None:
    found = one([1, 2], [2, 1])
    assert [value.dtype for value in found] == [np.float64] * 8 + [np.int64]
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is Distances and again._fields == found._fields


# -- hostile arguments --------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "reference": int64([1, 2, 3]),
    "live": int64([3, 2, 1]),
    "offsets": int64([0, 1, 3]),
    "edges": np.array([0.0, 1.0, 0.0, 1.0, 2.0]),
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "int32 counts": ({"reference": np.ones(3, np.int32)}, "reference must be int64"),
    "float counts": ({"live": np.ones(3)}, "live must be int64"),
    "two dimensions": ({"live": np.ones((1, 3), np.int64)}, "live must have one dimension"),
    "every other count": ({"reference": np.ones(6, np.int64)[::2]}, "reference must be C-contiguous"),
    "foreign byte order": ({"reference": np.ones(3, ">i8")}, "reference must be C-contiguous, aligned and"),
    "not aligned": ({"live": np.zeros(25, np.int8)[1:].view(np.int64)}, "live must be C-contiguous, aligned"),
    "fewer live counts": ({"live": int64([1, 2])}, "live has 2 counts, reference 3"),
    "more live counts": ({"live": int64([1, 2, 3, 4])}, "live has 4 counts, reference 3"),
    "negative reference": ({"reference": int64([1, 2, -1])}, "feature 1: reference counts must not be"),
    "negative live": ({"live": int64([-(2**63), 2, 1])}, "feature 0: live counts must not be negative"),
    "sum past 64 bits": ({"live": int64([1, LARGEST, 1])}, "feature 1: live counts sum to more than"),
    "sum that comes back below 64 bits": (
        {"live": int64([LARGEST, 1, 0]), "offsets": int64([0, 3]), "edges": None},
        "feature 0: live counts sum to more than",
    ),
    "no offsets": ({"offsets": int64([])}, "so at least one"),
    "offsets that start late": ({"offsets": int64([1, 1, 3])}, "offsets must run from 0"),
    "offsets that end early": ({"offsets": int64([0, 1, 2])}, "offsets must run from 0"),
    "offsets beyond the counts": ({"offsets": int64([0, 1, 4])}, "offsets must run from 0"),
    "offsets that fall": ({"offsets": int64([0, 9, 3])}, "offsets must not fall"),
    "offsets far outside": ({"offsets": int64([0, -(2**62), 3])}, "offsets must not fall"),
    "int32 offsets": ({"offsets": np.array([0, 1, 3], np.int32)}, "offsets must be int64"),
    "too few edges": ({"edges": np.array([0.0, 1.0, 2.0, 3.0])}, "5 in all, not 4"),
    "too many edges": ({"edges": np.zeros(6)}, "5 in all, not 6"),
    "float32 edges": ({"edges": np.zeros(5, np.float32)}, "edges must be float64"),
    "NaN edge": ({"edges": np.array([0.0, np.nan, 0.0, 1.0, 2.0])}, "feature 0: edges must be finite"),
    "infinite edge": ({"edges": np.array([0.0, 1.0, 0.0, 1.0, np.inf])}, "feature 1: edges must be finite"),
    "edges that fall": ({"edges": np.array([0.0, 1.0, 0.0, 2.0, 1.0])}, "feature 1: edges must not fall"),
    "epsilon 0": ({"epsilon": 0.0}, "epsilon must lie between 0 and 1"),
    "epsilon NaN": ({"epsilon": float("nan")}, "epsilon must lie between 0 and 1"),
    "epsilon 1": ({"epsilon": 1.0}, "epsilon must lie between 0 and 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_argument_is_refused_with_its_reason(case: str) -> None:
    change, reason = BAD[case]
    distances(**GOOD)
    with pytest.raises(ValueError, match=reason):
        distances(**(GOOD | change))


@pytest.mark.parametrize("name", ["reference", "live", "offsets", "edges"])
@pytest.mark.parametrize("thing", [[1, 2, 3], "abc", 7, b"12345678"])
def test_something_other_than_an_array_is_refused(name: str, thing: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a NumPy array"):
        distances(**(GOOD | {name: thing}))
