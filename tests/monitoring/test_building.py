"""A profile says of its rows what NumPy says, in any blocks, for every kind of column."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastserve.errors import InvalidProfile
from fastserve.monitoring.building import Described, ProfileBuilder, build_profile
from fastserve.monitoring.profile import CategoryFeature, NumberFeature, read_profile
from fastserve.monitoring.sampling import MAX_TEXT, CommonValues, RowSample
from fastserve.types import DataType, TensorSpec
from tests.monitoring import profiles

ELEC2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "elec2_data.dat"


def described(datatype: DataType, width: int = 1, role: Any = "input", codes: bool = False) -> Described:
    names = tuple(f"f{i}" for i in range(width))
    return Described(TensorSpec("x", datatype, (-1, width)), role, names, codes)


def built(
    rows: NDArray[Any], datatype: DataType, *, role: Any = "input", codes: bool = False, **more: Any
) -> Any:
    """Profile one tensor [rows, features] that comes in uneven blocks."""
    tensor = described(datatype, rows.shape[1], role, codes)
    profile = build_profile([tensor], lambda: ([block] for block in cut(rows)), **more)
    return profile.tensors[0].features


def cut(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    third = max(1, len(rows) // 3)
    yield from (rows[:third], rows[third : third + 1], rows[third + 1 :])


def objects(*values: Any) -> NDArray[Any]:
    made = np.empty((len(values), 1), object)
    made[:, 0] = values
    return made


floats = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e6])


@pytest.mark.parametrize(
    "answers",
    [
        np.repeat([0.1, 0.2, 0.5, 1.0], 25),  # of a forest, as few as its trees
        np.full(100, 0.7),
        np.linspace(-3, 1e6, 100),
        np.array([-3.4e38, 3.4e38]),
    ],
    ids=["ties", "a constant", "far apart", "the largest"],
)
@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_the_last_bits_of_answers_make_no_drift(answers: NDArray[Any], towards: float) -> None:
    given_then = answers.astype(np.float32)[:, None]
    given_now = np.nextafter(np.nextafter(given_then, np.float32(towards)), np.float32(towards))
    (output,) = built(given_then, DataType.FP32, role="output")
    counts = np.bincount(np.searchsorted(output.edges, given_now[:, 0].astype(np.float64)))
    assert counts.tolist() == list(output.counts)[: counts.size]
    assert output.counts[0] == output.counts[-1] == 0
    assert output.counts == built(given_then, DataType.FP32)[0].counts


def test_a_quantile_between_two_answers_is_near_neither() -> None:
    answers = np.repeat(np.array([0.48, 0.49], np.float16), [16, 2])[:, None]
    (output,) = built(answers, DataType.FP16, role="output")
    apart = np.abs(np.array(output.edges)[:, None] - np.unique(answers).astype(np.float64))
    assert len(output.edges) == 3 and apart.min() > 0.0045


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 4)), elements=floats),
    st.integers(1, 20),
)
def test_counts_are_those_of_searchsorted(rows: NDArray[Any], bins: int) -> None:
    for f, feature in enumerate(built(rows, DataType.FP32, bins=bins)):
        column = rows[:, f].astype(np.float64)
        known = column[~np.isnan(column)]
        finite = known[np.isfinite(known)]
        placed = np.bincount(np.searchsorted(feature.edges, known), minlength=len(feature.edges) + 1)
        assert feature.counts == tuple(placed)
        assert feature.missing == np.isnan(column).sum()
        assert (feature.minimum, feature.maximum) == (
            (finite.min(), finite.max()) if finite.size else (None, None)
        )
        # All that is finite lies in range.
        assert feature.counts[0] == feature.negative_infinite == (known == -np.inf).sum()
        assert feature.counts[-1] == feature.positive_infinite == (known == np.inf).sum()


@given(hnp.arrays(np.float64, st.integers(2, 80), elements=st.floats(-1e3, 1e3)), st.integers(2, 16))
def test_edges_are_the_quantiles(values: NDArray[Any], bins: int) -> None:
    (feature,) = built(values[:, None], DataType.FP64, bins=bins)
    inner = np.unique(np.quantile(values, np.arange(1, bins) / bins))
    inner = inner[inner < values.max()]
    assert feature.edges == (np.nextafter(values.min(), -np.inf), *inner, values.max())


@given(
    hnp.arrays(np.float64, (50, 1), elements=st.floats(-10, 10)),
    st.sampled_from([1e6, np.nan, np.inf, -np.inf]),
)
def test_a_strange_value_moves_no_other_row(rows: NDArray[Any], strange: float) -> None:
    tensor = described(DataType.FP64)
    profile = build_profile([tensor], lambda: [[rows]])
    plain, other = profile.tensors[0].sketch(), profile.tensors[0].sketch()
    plain.update(rows)
    other.update(np.append(rows, [[strange]], axis=0))
    assert plain.counts.tolist() == list(profile.tensors[0].features[0].counts)
    assert (other.counts - plain.counts)[1:-1].tolist() == [0] * (plain.counts.size - 2)


def test_one_row_of_a_million_moves_inner_bins_by_its_rank_only() -> None:
    rows = np.random.default_rng(1).standard_normal((10_000, 1))
    (plain,) = built(rows, DataType.FP64)
    (odd,) = built(np.append(rows, [[1e6]], axis=0), DataType.FP64)
    assert np.abs(np.array(odd.edges[1:-1]) - plain.edges[1:-1]).max() < 0.01
    assert np.abs(np.array(odd.counts) - plain.counts).max() <= 1
    assert odd.edges[-1] == 1e6


def test_a_constant_has_two_edges() -> None:
    (feature,) = built(np.full((10, 1), 7.0), DataType.FP64)
    assert feature.edges == (np.nextafter(7.0, 0.0), 7.0)
    assert (feature.counts, feature.mean, feature.m2) == ((0, 10, 0), 7.0, 0.0)
    assert (feature.phi, feature.windows) == (1.0, 0)


@pytest.mark.parametrize(("fill", "counts"), [(np.nan, (0, 0)), (np.inf, (0, 10)), (-np.inf, (10, 0))])
def test_without_a_finite_value_there_is_one_edge(fill: float, counts: tuple[int, int]) -> None:
    (feature,) = built(np.full((10, 1), fill, np.float32), DataType.FP32)
    assert (feature.edges, feature.counts, feature.mean) == ((0.0,), counts, None)
    assert feature.missing == 10 - sum(counts)


def test_values_at_the_ends_of_their_type() -> None:
    largest = np.finfo(np.float64).max
    (feature,) = built(np.array([[largest], [-largest], [0.0]]), DataType.FP64)
    assert sum(feature.counts) == 3
    whole = np.array([[2**53 + 1], [-(2**53) - 1], [0], [2**63 - 1]])
    (feature,) = built(whole, DataType.INT64)
    assert (feature.counts[0], sum(feature.counts), feature.counts[-1]) == (0, 4, 0)


def test_a_spread_that_no_double_holds_is_none() -> None:
    (x,) = built(np.array([[1.0], [1e300]]), DataType.FP64)
    assert isinstance(x, NumberFeature)
    assert (x.mean, x.m2) == (5e299, None)


@pytest.mark.parametrize("datatype", [DataType.FP16, DataType.FP32, DataType.INT8, DataType.UINT64])
def test_numbers_of_every_type(datatype: DataType) -> None:
    rows = np.arange(100).reshape(50, 2).astype(datatype.dtype)
    first, second = built(rows, datatype)
    assert isinstance(first, NumberFeature)
    assert (first.mean, second.mean) == (49.0, 50.0)
    assert len(first.counts) == 18


def test_whole_numbers_are_labels_of_outputs_and_codes_where_said() -> None:
    rows = np.repeat(np.arange(64, dtype=np.int64), 2)[:, None]
    (amount,) = built(rows, DataType.INT64)
    (label,) = built(rows, DataType.INT64, role="output")
    (many,) = built(np.arange(65)[:, None], DataType.INT64, role="output")
    (code,) = built(np.arange(65)[:, None], DataType.INT64, codes=True)
    assert [one.kind for one in (amount, label, many, code)] == ["number", "category", "number", "category"]
    assert (label.categories, label.counts) == (tuple(range(64)), (2,) * 64)


def test_one_wide_column_makes_numbers_of_the_whole_output() -> None:
    rows = np.stack([np.zeros(100, np.int32), np.arange(100, dtype=np.int32)], axis=1)
    assert [one.kind for one in built(rows, DataType.INT32, role="output")] == ["number", "number"]


def test_bools_have_both_categories() -> None:
    (feature,) = built(np.array([[True], [True], [True]]), DataType.BOOL)
    assert (feature.categories, feature.counts) == ((False, True), (0, 3))


def test_text_is_counted_the_most_frequent_first() -> None:
    rows = objects("b", "a", "b", None, "c", "a", "b", "", None)
    (feature,) = built(rows, DataType.BYTES, max_categories=3)
    assert (feature.categories, feature.counts) == (("b", "a", "c"), (3, 2, 1))
    assert (feature.missing, feature.unseen) == (3, 0)


def test_a_profile_whose_counts_do_not_add_up_is_none() -> None:
    good = build_profile([described(DataType.FP32)], lambda: [[np.arange(8, dtype=np.float32)[:, None]]])
    facts = good.model_dump(mode="json")
    facts["rows"] = 9
    with pytest.raises(InvalidProfile, match="the counts of 'f0' make 8 rows, the profile has 9"):
        read_profile(json.dumps(facts).encode())
    facts["rows"], feature = 8, facts["tensors"][0]["features"][0]
    feature["minimum"], feature["maximum"] = 7.0, 0.0
    with pytest.raises(InvalidProfile, match="the minimum is above the maximum"):
        read_profile(json.dumps(facts).encode())


@pytest.mark.parametrize(
    ("tensor", "change", "why"),
    [
        (0, {"m2": -1.0}, "m2"),
        (0, {"phi": 0.0}, "phi"),
        (0, {"edges": [], "counts": [4]}, "edges"),
        (0, {"counts": [4]}, "2 edges need 3 counts"),
        (0, {"edges": [1.0, 1.0]}, "edges must rise"),
        (1, {"categories": ["a"]}, "1 categories need as many counts"),
        (1, {"categories": ["a", "a"]}, "categories must differ"),
        (1, {"categories": [0, 2**64]}, "fits neither int64 nor uint64"),
    ],
)
def test_what_is_no_profile(tensor: int, change: dict[str, Any], why: str) -> None:
    tensors = [described(DataType.FP32), described(DataType.BYTES, role="output")]
    block = [np.ones((4, 1), np.float32), objects(*"abab")]
    facts = build_profile(tensors, lambda: [block]).model_dump(mode="json")
    facts["tensors"][tensor]["features"][0].update(change)
    with pytest.raises(InvalidProfile, match=why):
        read_profile(json.dumps(facts).encode())


def test_no_content_of_rows_becomes_a_category() -> None:
    rows = objects("x" * MAX_TEXT, "x" * (MAX_TEXT + 1), "\ud800", "ok")
    (feature,) = built(rows, DataType.BYTES)
    assert feature.categories == ("ok", "x" * MAX_TEXT)
    assert feature.unseen == 2
    common = CommonValues(100)
    common.add(rows[:, 0])
    assert len(common) == 3, "a column of documents is not kept in memory"


def test_a_hundred_thousand_categories() -> None:
    rows = np.array([f"c{i}" for i in range(100_000)] * 2, object)[:, None]
    (kept,) = built(rows, DataType.BYTES)
    assert (len(kept.categories), sum(kept.counts), kept.unseen) == (1_000, 2_000, 198_000)
    (every,) = built(rows, DataType.BYTES, max_categories=100_000)
    assert (set(every.counts), len(every.counts), every.unseen) == ({2}, 100_000, 0)


def test_two_thousand_features() -> None:
    rows = np.random.default_rng(0).standard_normal((2_000, 2_000)).astype(np.float32)
    features = built(rows, DataType.FP32)
    assert len(features) == 2_000
    assert all(max(one.counts) == 125 and len(one.counts) == 18 for one in features)


def test_two_thousand_columns_that_are_inputs_of_their_own() -> None:
    tensors = [
        Described(TensorSpec(f"x{i}", DataType.FP32, (-1, 1)), "input", (f"x{i}",)) for i in range(2_000)
    ]
    rows = [np.full((3, 1), i, np.float32) for i in range(2_000)]
    profile = build_profile(tensors, lambda: [rows])
    assert read_profile(profile.to_bytes()) == profile and len(profile.tensors) == 2_000


def test_phi_of_independent_rows_is_about_one() -> None:
    rng = np.random.default_rng(5)
    features = built(rng.standard_normal((20_000, 8)), DataType.FP64)
    assert [one.windows for one in features] == [20] * 8
    assert all(1.0 <= one.phi < 1.6 for one in features)
    assert built(rng.standard_normal((9_999, 1)), DataType.FP64)[0].windows == 0


def test_phi_is_the_mean_chi_square_of_windows() -> None:
    rng = np.random.default_rng(6)
    rows = np.repeat(rng.integers(0, 5, 100), 20)[:1_990, None].astype(np.float64)
    rows[300:500] = np.nan
    (feature,) = built(rows, DataType.FP64, bins=5, window_rows=100)
    placed = np.searchsorted(feature.edges[1:-1], rows[:, 0]).astype(np.float64)
    placed[np.isnan(rows[:, 0])] = np.nan
    bins = len(feature.edges) - 1
    total = np.bincount(placed[~np.isnan(placed)].astype(int), minlength=bins)
    shares = total / total.sum()
    squares = []
    for start in range(0, 1_900, 100):
        window = placed[start : start + 100]
        counts = np.bincount(window[~np.isnan(window)].astype(int), minlength=bins)
        if counts.sum():
            expected = counts.sum() * shares
            squares.append(((counts - expected) ** 2 / expected).sum() / (bins - 1))
    assert (feature.windows, len(squares)) == (17, 17)
    assert feature.phi == pytest.approx(np.mean(squares))


def test_phi_of_categories_counts_the_unseen() -> None:
    rows = np.array(["a"] * 50 + ["z1", "z2"] * 25, object)[:, None]
    (feature,) = built(rows, DataType.BYTES, max_categories=1, window_rows=50)
    # All a, then all unseen: (25^2 + 25^2) / 25 a window, one degree of freedom.
    assert (feature.phi, feature.windows) == (50.0, 2)


def test_phi_of_the_electricity_market() -> None:
    if not ELEC2.exists():
        pytest.skip(f"no {ELEC2.name} beside the repository: it has no licence, so that it is not kept here")
    rows = np.loadtxt(ELEC2)[: 30 * 336, 1:5]
    day, period, price, demand = built(rows, DataType.FP64, bins=10, window_rows=336)
    assert (day.phi, period.phi) == (1.0, 1.0)
    assert price.phi == pytest.approx(38.6, rel=0.01)
    assert demand.phi == pytest.approx(11.2, rel=0.01)


def test_several_tensors_and_the_file() -> None:
    tensors = [
        Described(TensorSpec("x", DataType.FP32, (-1,)), "input", ("x",)),
        Described(TensorSpec("name", DataType.BYTES, (-1, 1)), "input", ("name",)),
        Described(TensorSpec("y", DataType.FP32, (-1, 2, 2)), "output", ("a", "b", "c", "d")),
    ]
    block = [np.arange(5, dtype=np.float32), objects(*"abcab"), np.ones((5, 2, 2), np.float32)]
    profile = build_profile(tensors, lambda: [block], description="five rows")
    assert [(one.role, one.tensor, len(one.features)) for one in profile.tensors] == [
        ("input", "x", 1),
        ("input", "name", 1),
        ("output", "y", 4),
    ]
    assert isinstance(profile.tensors[1].features[0], CategoryFeature)
    assert (profile.rows, profile.description) == (5, "five rows")
    assert read_profile(profile.to_bytes()) == profile


def test_what_makes_no_profile() -> None:
    tensor = described(DataType.FP64)
    with pytest.raises(InvalidProfile, match="no rows"):
        build_profile([tensor], list)
    with pytest.raises(InvalidProfile, match="no rows"):
        build_profile([tensor], lambda: [[np.empty((0, 1))]])
    passes: Iterator[Sequence[Any]] = iter([[[np.zeros((5, 1))]], [[np.zeros((6, 1))]]])
    with pytest.raises(InvalidProfile, match="5 rows at first, then 6"):
        build_profile([tensor], lambda: next(passes))
    named = Described(tensor.spec, "input", ("n" * 257,))
    with pytest.raises(InvalidProfile, match=r"tensors|features|name"):
        build_profile([named], lambda: [[np.zeros((5, 1))]])
    with pytest.raises(ValueError, match="bins must be 1 to"):
        ProfileBuilder([tensor], bins=0)
    with pytest.raises(ValueError, match="categories must be 1 to"):
        ProfileBuilder([tensor], max_categories=2_000_000)


def test_a_sample_is_bounded_uniform_and_the_same_for_any_blocks() -> None:
    rows = np.arange(10_000)[:, None]
    whole, parts, all_of_them = RowSample(500), RowSample(500), RowSample(10_000)
    whole.add(rows)
    for start in range(0, 10_000, 37):
        parts.add(rows[start : start + 37])
        all_of_them.add(rows[start : start + 37])
    assert len(whole.column(0)) == 500
    assert np.array_equal(whole.column(0), parts.column(0))
    assert np.array_equal(all_of_them.column(0), rows[:, 0])
    deciles = np.bincount(whole.column(0) // 1_000, minlength=10)
    assert deciles.min() > 25 and deciles.max() < 80


def test_common_values_stay_bounded() -> None:
    common = CommonValues(100)
    for start in range(0, 3_000, 30):
        common.add(objects(*[f"rare {i}" for i in range(start, start + 30)], *["often"] * 5)[:, 0])
        assert len(common) <= 100
    assert common.texts(1) == ("often",)


def test_a_sampled_profile_counts_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.monitoring.building._EXACT_ROWS", 200)
    rows = np.random.default_rng(2).standard_normal((5_000, 1))
    (feature,) = built(rows, DataType.FP64)
    assert sum(feature.counts[1:-1]) == 5_000
    assert (feature.edges[-1], feature.minimum) == (rows.max(), rows.min())
    placed = np.bincount(np.searchsorted(feature.edges, rows[:, 0]), minlength=18)
    assert feature.counts == tuple(placed)


def test_a_profile_is_of_the_models_shape() -> None:
    fits = profiles.signature([("x", "FP32", 3), ("carrier", "FP32", 1)], [("y", "FP32", 3)])
    profiles.profile().check(fits)
    texts = profiles.texts().model_copy(update={"datatype": "FP32"})
    for one, why in [
        (profiles.tensor(width=2), "has 2 columns, the model takes 3: 'x1' is the last"),
        (profiles.tensor("z", "output"), "is not an output of the model, which has y"),
        (texts, "has category columns such as 'carrier'; FP32 needs numbers"),
    ]:
        with pytest.raises(InvalidProfile, match=why):
            profiles.profile(one).check(fits)
        profiles.profile(one).check(fits, [one])
    with pytest.raises(ValueError, match="a tensor is described twice"):
        profiles.profile(profiles.tensor(), profiles.tensor())
