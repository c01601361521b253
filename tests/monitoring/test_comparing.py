"""A comparison says what SciPy and NumPy say of the same rows, and nothing where there is nothing to say."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastserve.errors import FastserveError
from fastserve.monitoring import exact
from fastserve.monitoring.bins import Folding
from fastserve.monitoring.building import Described, build_profile
from fastserve.monitoring.comparing import FeatureComparison, compare, finite_or_none
from fastserve.monitoring.exact import DistinctValues, exact_distances
from fastserve.monitoring.profile import NumberFeature, TensorProfile
from fastserve.types import DataType, TensorSpec

stats: Any = pytest.importorskip("scipy.stats", reason="SciPy is what the figures are compared with")

FAR = ("psi_raw", "jensen_shannon", "hellinger", "total_variation", "chi_square")
ORDERED = ("kolmogorov_smirnov", "wasserstein")


def profiled(rows: NDArray[Any], datatype: DataType, **more: Any) -> TensorProfile:
    names = tuple(f"f{i}" for i in range(rows.shape[1]))
    tensor = Described(TensorSpec("x", datatype, (-1, rows.shape[1])), "input", names)
    return build_profile([tensor], lambda: [[rows]], **more).tensors[0]


def compared(
    reference: NDArray[Any], live: NDArray[Any], datatype: DataType = DataType.FP64, **more: Any
) -> list[FeatureComparison]:
    profile = profiled(reference, datatype, **more)
    sketch = profile.sketch()
    sketch.update(live)
    return compare(profile, sketch)


def column(*values: float) -> NDArray[Any]:
    return np.array(values, np.float64)[:, None]


def objects(*values: Any) -> NDArray[Any]:
    made = np.empty((len(values), 1), object)
    made[:, 0] = values
    return made


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 60), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]),
    ),
    st.integers(1, 16),
)
def test_the_same_rows_are_at_no_distance(rows: NDArray[Any], bins: int) -> None:
    for f, one in enumerate(compared(rows, rows, bins=bins)):
        known = rows[:, f][~np.isnan(rows[:, f])]
        nothing = {0.0} if known.size else {None}
        assert {one.distances[name] for name in FAR + ORDERED} == nothing
        assert one.live.model_dump(exclude={"moments"}) == one.reference.model_dump(exclude={"moments"})
        assert one.live.outside == one.live.infinite == np.isinf(known).sum()


@given(st.lists(st.sampled_from(["a", "b", "c", None, "d"]), min_size=1, max_size=40))
def test_the_same_categories_are_at_no_distance(values: list[Any]) -> None:
    (one,) = compared(objects(*values), objects(*values), DataType.BYTES, max_categories=2)
    known = [value for value in values if value is not None]
    assert {one.distances[name] for name in FAR} == ({0.0} if known else {None})
    assert one.reference == one.live
    assert one.live.missing == values.count(None)


def test_figures_are_those_of_the_bins() -> None:
    rng = np.random.default_rng(0)
    reference, live = rng.standard_normal((4_000, 2)), rng.standard_normal((900, 2))
    live[:, 1] += 0.7
    same, shifted = compared(reference, live, bins=10)
    p, q = (np.array(side.counts) for side in (shifted.reference, shifted.live))
    p, q = (np.array([c[0] + c[1], *c[2:-2], c[-2] + c[-1]]) / c.sum() for c in (p, q))
    assert shifted.distances["psi_raw"] == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert shifted.distances["total_variation"] == pytest.approx(np.abs(p - q).sum() / 2)
    assert shifted.distances["kolmogorov_smirnov"] == pytest.approx(np.abs(np.cumsum(p - q)).max())
    assert shifted.distances["degrees"] == 9.0
    table = stats.chi2_contingency([p * 4_000, q * 900], correction=False)
    assert shifted.distances["chi_square"] == pytest.approx(table.statistic)
    assert shifted.distances["psi"] == pytest.approx(
        np.sum((p - q) * np.log(p / q)) - 9 * (1 / 4_000 + 1 / 900)
    )
    assert same.distances["jensen_shannon"] < shifted.distances["jensen_shannon"]  # type: ignore[operator]
    moments = shifted.live.moments
    assert moments is not None
    assert moments.mean == pytest.approx(live[:, 1].mean())
    assert moments.sd == pytest.approx(live[:, 1].std(ddof=1))
    assert (moments.minimum, moments.maximum) == (live[:, 1].min(), live[:, 1].max())
    mine = shifted.reference.moments
    assert mine is not None and mine.sd == pytest.approx(reference[:, 1].std(ddof=1))


@pytest.mark.parametrize("kinds", [2, 3, 5])
def test_psi_of_categories_is_about_nothing_without_drift(kinds: int) -> None:
    """Although there is a bin for what is unseen, and nothing in it."""
    rng, rows = np.random.default_rng(kinds), 200
    pairs = rng.integers(0, kinds, (400, 2, rows, 1)).astype("U1").astype(object)
    found = [compared(one[0], one[1], DataType.BYTES)[0].distances for one in pairs]
    psi, plain = np.array([(one["psi"], one["psi_raw"]) for one in found], np.float64).T
    bias, sd = (kinds - 1) * 2 / rows, np.std(plain) / np.sqrt(len(plain))
    assert np.mean(plain) == pytest.approx(bias, abs=4 * sd)
    assert np.mean(psi) == pytest.approx(0, abs=4 * sd)
    assert bias > 8 * sd


def test_out_of_range_counts_in_the_outermost_bin_and_apart() -> None:
    reference = column(*range(100))
    (one,) = compared(reference, column(-5, -np.inf, *range(50), 1e9), bins=2)
    assert (one.live.rows, one.live.outside, one.live.infinite) == (53, 3, 1)
    assert one.live.counts == (2, 50, 0, 1)
    assert one.distances["degrees"] == 1.0
    assert one.distances["total_variation"] == pytest.approx(abs(0.5 - 52 / 53))


def test_what_is_out_of_a_constants_range_shows() -> None:
    constant = column(*[5.0] * 10)
    (same,) = compared(constant, constant)
    (above,) = compared(constant, column(5.0, 5.0, 9.0, 9.0))
    (below,) = compared(constant, column(1.0, 1.0))
    assert same.distances["total_variation"] == 0.0
    assert above.distances["total_variation"] == 0.5
    assert (below.distances["total_variation"], below.distances["kolmogorov_smirnov"]) == (1.0, 1.0)
    assert (above.live.outside, below.live.outside) == (2, 2)
    # The half lies somewhere between 5 and 9, and the whole between 1 and 5.
    assert above.distances["wasserstein"] == pytest.approx(1.0)
    assert below.distances["wasserstein"] == pytest.approx(2.0)


def test_two_values_share_their_bins_with_what_lies_beyond() -> None:
    (one,) = compared(column(0, 1, 0, 1), column(-1, 2))
    assert one.live.outside == 2
    assert one.distances["total_variation"] == 0.0


@pytest.mark.parametrize(
    ("reference", "live"),
    [
        (column(np.nan, np.nan), column(1.0)),
        (column(1.0, 2.0), column(np.nan)),
        (column(1.0, 2.0), np.empty((0, 1))),
        (column(np.nan), np.empty((0, 1))),
    ],
)
def test_without_rows_on_a_side_there_is_no_figure(reference: NDArray[Any], live: NDArray[Any]) -> None:
    (one,) = compared(reference, live)
    assert set(one.distances.values()) == {None}
    assert one.live.rows == len(live)
    assert one.live.missing == np.isnan(live).sum()


def test_one_empty_feature_leaves_the_others_alone() -> None:
    rows = np.stack([np.arange(20.0), np.full(20, np.nan)], axis=1)
    first, second = compared(rows, rows)
    assert first.distances["psi_raw"] == 0.0
    assert second.distances["psi_raw"] is None


def test_what_is_missing_has_a_figure_of_its_own() -> None:
    there = np.arange(1_000.0)
    half = np.where(there % 2 == 0, np.nan, there)
    few = np.where(there < 50, np.nan, there)
    rows = [np.stack([there] * 4, axis=1), np.stack([there, half, few, np.full(1_000, np.nan)], axis=1)]
    same, lost, some, gone = compared(rows[0], rows[1])
    assert [round(one.missing.psi or 0.0, 3) for one in (same, lost, some)] == [-0.002, 4.602, 0.311]
    p, q = 0.05, 1e-4
    assert some.missing.psi == pytest.approx((p - q) * np.log(p / q) + (0.95 - 1) * np.log(0.95 / 1) - 0.002)
    assert [one.missing.may_be_chance for one in (same, lost, some, gone)] == [True, False, False, False]
    assert [one.is_gone for one in (same, lost, some, gone)] == [False, False, False, True]
    assert gone.distances["psi"] is None and gone.severity == np.inf
    assert lost.severity == lost.missing.psi
    assert sorted([same, some, gone, lost], key=lambda one: -one.severity) == [gone, lost, some, same]


def test_what_is_out_of_range_has_a_figure_of_its_own() -> None:
    # Its outermost bins are full anyhow: a mask of 0 and 255 instead of 0 and 1 has the same shares.
    mask, spread = np.arange(1_000.0) % 2, np.arange(1_000.0)
    masked, same = compared(np.stack([mask, spread], axis=1), np.stack([mask * 255, spread], axis=1))
    assert masked.distances["psi"] == same.outside.psi == pytest.approx(-0.002)
    assert masked.severity == masked.outside.psi == pytest.approx(0.498 * np.log(499) - 0.002)
    assert (masked.outside.may_be_chance, same.outside.may_be_chance) == (False, True)


def test_without_live_rows_nothing_is_severe() -> None:
    (one,) = compared(column(1.0, 2.0, np.nan), np.empty((0, 1)))
    assert (one.missing.psi, one.severity, one.is_gone) == (None, -np.inf, False)
    none = one.model_copy(update={"reference": one.live, "live": one.reference})
    assert (none.missing.psi, none.missing.may_be_chance) == (None, True)
    (never,) = compared(column(np.nan, np.nan), column(np.nan))
    assert not never.is_gone


def test_an_empty_text_is_a_missing_one() -> None:
    (one,) = compared(objects("a", "", None, "b"), objects("", "", "a", "new"), DataType.BYTES)
    assert one.categories == ("a", "b")
    assert (one.reference.missing, one.live.missing, one.live.outside) == (2, 2, 1)


def test_moments_without_meaning_are_none() -> None:
    (far,) = compared(1e6 + column(0.0, 1.0, 2.0), 1e15 + column(0.0, 1.0, 2.0))
    assert far.live.moments is not None
    assert (far.live.moments.mean, far.live.moments.sd) == (1e15 + 1, None)
    both = column(1.0, 3.0, np.inf, -np.inf)
    (known,) = compared(both, both)
    assert known.reference.moments == known.live.moments
    assert known.live.moments is not None and known.live.moments.sd == 2**0.5
    (one,) = compared(column(1.0), column(np.inf))
    assert one.reference.moments is not None and one.live.moments is not None
    assert (one.reference.moments.mean, one.reference.moments.sd) == (1.0, None)
    assert set(one.live.moments.model_dump().values()) == {None}


@pytest.mark.parametrize("outlier", [1e9, 1e18, 1e30])
@pytest.mark.parametrize("datatype", [DataType.FP32, DataType.FP64])
def test_one_reference_value_far_off_leaves_the_live_moments_right(
    outlier: float, datatype: DataType
) -> None:
    rows = np.random.default_rng(5).normal(1.0, 1.0, (2_000, 1)).astype(datatype.dtype)
    reference = np.vstack([rows, [[outlier]]]).astype(datatype.dtype)
    (found,) = compared(reference, rows, datatype)
    assert found.live.moments is not None
    assert found.live.moments.mean == pytest.approx(rows.astype(np.float64).mean(), rel=1e-9)
    assert found.live.moments.sd == pytest.approx(rows.astype(np.float64).std(ddof=1), rel=1e-9)


def test_whole_numbers_as_close_as_doubles_have_no_deviation_on_either_side() -> None:
    rows = 2**54 + np.arange(10, dtype=np.int64).repeat(20)[:, None]
    (found,) = compared(rows, rows, DataType.INT64)
    assert found.reference.moments == found.live.moments
    assert found.live.moments is not None and found.live.moments.sd is None


def test_categories() -> None:
    (one,) = compared(
        objects(*"aaabbc", None), objects("a", "new", "new", None, None), DataType.BYTES, max_categories=2
    )
    assert one.categories == ("a", "b")
    assert (one.reference.counts, one.reference.outside, one.reference.missing) == ((3, 2), 1, 1)
    assert (one.live.counts, one.live.outside, one.live.missing) == ((1, 0), 2, 2)
    assert [one.distances[name] for name in ORDERED] == [None, None]
    assert one.distances["total_variation"] == pytest.approx(1 / 2)
    assert one.distances["degrees"] == 2.0


def test_bools_and_codes_are_said_as_text() -> None:
    (one,) = compared(np.array([[True], [False]]), np.array([[True]]), DataType.BOOL)
    assert (one.categories, one.live.counts) == (("false", "true"), (0, 1))


def test_json_has_no_number_that_json_has_not() -> None:
    largest = np.finfo(np.float64).max
    for one in compared(column(-largest, 0.0, largest), column(-largest, largest, largest), bins=2):
        json.loads(json.dumps(one.model_dump(mode="json"), allow_nan=False))
    assert [finite_or_none(value) for value in (np.inf, -np.inf, np.nan, 1.0)] == [None, None, None, 1.0]


def test_two_thousand_features_come_in_their_order() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 2_000))
    found = compared(rows, rows[:, ::-1].copy())
    assert [one.feature for one in found] == [f"f{i}" for i in range(2_000)]
    for f in (0, 7, 1_999):
        (reference, live) = found[f].reference.moments, found[f].live.moments
        assert reference is not None and live is not None
        assert (reference.minimum, live.minimum) == (rows[:, f].min(), rows[:, -1 - f].min())


def test_a_comparison_carries_phi_and_role() -> None:
    rows = np.repeat(np.arange(4.0), 100)[:, None]
    profile = profiled(rows, DataType.FP64, window_rows=100, bins=4)
    feature = profile.features[0]
    assert isinstance(feature, NumberFeature)
    assert feature.phi == 100.0
    (one,) = compare(profile.model_copy(update={"role": "output"}), profile.sketch())
    assert (one.phi, one.phi_windows, one.role) == (100.0, 4, "output")


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_folding_keeps_every_row(sizes: list[int]) -> None:
    edges = [tuple(map(float, range(size))) for size in sizes]
    counts = np.arange(1, sum(size + 1 for size in sizes) + 1)
    folding = Folding(edges)
    folded = folding(counts)
    at = 0
    for f, size in enumerate(sizes):
        mine, raw = folded[folding.offsets[f] : folding.offsets[f + 1]], counts[at : at + size + 1]
        expected = [raw[0] + raw[1], *raw[2:-2], raw[-2] + raw[-1]] if size > 2 else list(raw)
        assert mine.tolist() == expected
        at += size + 1


samples = hnp.arrays(
    np.float64, st.integers(1, 50), elements=st.floats(-100, 100) | st.sampled_from([0.0, 1.0, 2.0])
)


def test_an_infinity_is_a_value_to_kolmogorov_and_smirnov() -> None:
    sides = DistinctValues(1), DistinctValues(1)
    values = np.arange(100.0)[:, None]
    sides[0].add(values)
    sides[1].add(np.where(values < 50, values, np.inf))
    assert exact_distances(*sides)[0] == pytest.approx((0.5, 25.0))
    sides[0].add(np.full((100, 1), -np.inf))
    assert exact_distances(*sides)[0] == pytest.approx((0.5, 25.0))
    only = DistinctValues(1)
    only.add(np.full((3, 1), np.inf))
    assert exact_distances(sides[0], only) == [(1.0, None)]


@given(samples, samples)
def test_exact_distances_are_those_of_the_samples(first: NDArray[Any], second: NDArray[Any]) -> None:
    sides = DistinctValues(2), DistinctValues(2)
    for side, sample in zip(sides, (first, second), strict=True):
        for value in sample:
            side.add(np.array([[value, np.nan]]))
    (found, nothing) = exact_distances(*sides)
    assert nothing == (None, None)
    # SciPy's ks_2samp warns of small samples.
    either = np.union1d(first, second)
    shares = [np.searchsorted(np.sort(each), either, "right") / each.size for each in (first, second)]
    assert found[0] == pytest.approx(np.abs(shares[0] - shares[1]).max(), abs=1e-12)
    assert found[1] == pytest.approx(stats.wasserstein_distance(first, second), abs=1e-9)


def test_exact_distances_merge_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_WAITING_VALUES", 8)
    rows = np.random.default_rng(0).integers(0, 50, (500, 2)).astype(np.float64)
    side = DistinctValues(2)
    for start in range(0, 500, 3):
        side.add(rows[start : start + 3])
    for f in (0, 1):
        values, counts = np.unique(rows[:, f], return_counts=True)
        assert np.array_equal(side.of(f)[0], values)
        assert np.array_equal(side.of(f)[1], counts)
    monkeypatch.setattr(exact, "MAX_DISTINCT", 100)
    side.add(rows)
    with pytest.raises(FastserveError, match="leave out --exact"):
        side.add(np.stack([np.zeros(200), np.arange(200.0)], axis=1))
