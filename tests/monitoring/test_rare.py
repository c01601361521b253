"""Rare categories are judged together: chance alone marks no column of them, and no drift hides behind them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastserve.monitoring.comparing import FeatureComparison
from fastserve.monitoring.rare import pooled
from fastserve.types import DataType
from fastserve_core.distance import distances
from tests.monitoring.test_comparing import compared, objects

WINDOWS = 20


def zipf(rng: np.random.Generator, categories: int, rows: int) -> NDArray[Any]:
    """As frequent as words: the k-th comes 1 / k as often as the first."""
    upto = np.cumsum(1 / np.arange(1, categories + 1))
    return np.array(np.searchsorted(upto, rng.random((rows, 1)) * upto[-1]))


def windows(categories: int, rows: int, live_rows: int, drift: str = "none") -> Iterator[FeatureComparison]:
    rng = np.random.default_rng([categories, rows, live_rows])
    for _ in range(WINDOWS):
        reference, live = (zipf(rng, categories, size) for size in (rows, live_rows))
        changed = rng.random(live.shape)
        if drift == "doubled":
            first = (live == 0).mean()
            live[changed < first / (1 - first)] = 0
        elif drift == "new":
            live[changed < 0.05] = categories
        before, after = (side.astype(str).astype(object) for side in (reference, live))
        yield compared(before, after, DataType.BYTES, window_rows=0)[0]


@pytest.mark.parametrize("categories", [200, 5_000, 100_000])
@pytest.mark.parametrize(("rows", "live_rows"), [(1_000, 300), (1_000, 10_000), (10_000, 300)])
def test_clean_windows_of_rare_categories_have_no_psi_and_no_mark(
    categories: int, rows: int, live_rows: int
) -> None:
    found = list(windows(categories, rows, live_rows))
    assert {one.grade for one in found} == {"low"} == {one.outside.grade for one in found}
    psi = np.array([one.distances["psi"] for one in found], np.float64)
    assert abs(psi.mean()) < 0.02 and np.abs(psi).max() < 0.15
    alarms = [psi > 0.25 and (one.excess or 0) > 2 for one, psi in zip(found, psi, strict=True)]
    assert not any(alarms)


def test_names_that_come_once_say_nothing() -> None:
    names = np.arange(22_000).astype(str).astype(object)[:, None]
    for live in (names[2_000:2_300], names[2_000:]):
        (one,) = compared(names[:1_000], live, DataType.BYTES)
        assert (one.distances["psi"], one.excess, one.grade) == (0.0, None, "low")


@pytest.mark.parametrize(("categories", "live_rows"), [(200, 100), (5_000, 300), (100_000, 1_000)])
def test_a_frequent_category_is_not_lost_among_rare_ones(categories: int, live_rows: int) -> None:
    found = list(windows(categories, 10_000, live_rows, "doubled"))
    assert sum(not one.may_be_chance for one in found) >= 15
    assert min(one.distances["psi"] or 0 for one in found) > -0.1


@pytest.mark.parametrize("live_rows", [300, 1_000, 10_000])
def test_a_new_category_is_no_rare_one(live_rows: int) -> None:
    found = list(windows(200, 10_000, live_rows, "new"))
    assert sum("low" not in (one.grade, one.outside.grade) for one in found) >= 18
    assert min(one.excess or 0 for one in found) > 2


@pytest.mark.parametrize("live_rows", [100, 1_000])
def test_who_was_kept_of_equally_frequent_categories_is_chance(live_rows: int) -> None:
    """Such as customers: of 10,000 those were kept that came twice, and one row in ten of others is theirs."""
    rng, marked = np.random.default_rng(live_rows), 0
    for _ in range(3 * WINDOWS):
        before, after = (
            rng.integers(0, 10_000, (rows, 1)).astype(str).astype(object) for rows in (5_000, live_rows)
        )
        marked += compared(before, after, DataType.BYTES)[0].outside.grade != "low"
    assert marked <= 2


@pytest.mark.parametrize("categories", [200, 5_000])
@pytest.mark.parametrize("live_rows", [1_000, 10_000])
def test_clean_windows_of_clusters_have_no_mark(categories: int, live_rows: int) -> None:
    """Such as of users whose rows come together; a cluster tells no more than a row would."""
    rng, found = np.random.default_rng([categories, live_rows]), []
    for _ in range(WINDOWS):
        reference, live = (
            np.repeat(zipf(rng, categories, rows), rng.geometric(0.1, rows), axis=0)[:rows]
            for rows in (10_000, live_rows)
        )
        before, after = (side.astype(str).astype(object) for side in (reference, live))
        found.append(compared(before, after, DataType.BYTES)[0])
    assert np.mean([one.phi for one in found]) == pytest.approx(19, abs=3)  # a row's own cluster, on average
    assert sum((one.grade, one.outside.grade) != ("low", "low") for one in found) <= 2


def test_the_pool_is_a_bin_of_every_feature() -> None:
    reference = np.array([900, 60, 30, 9, 1, 0, 500, 500, 0], np.int64)
    live = np.array([80, 12, 3, 4, 0, 1, 40, 30, 30], np.int64)
    found = pooled(reference, live, np.array([0, 6, 9]), np.array([False, True]))
    # Of 1,100 rows 100 are live: 55 of a category make 5 there.
    for feature, (first, second) in enumerate([([900, 60, 40], [80, 12, 8]), ([500, 500, 0], [40, 30, 30])]):
        one = distances(np.array(first), np.array(second), np.array([0, 3]))
        for name in ("psi_raw", "chi_square", "jensen_shannon", "degrees"):
            assert getattr(found, name)[feature] == getattr(one, name)[0], name
    by_phi = pooled(reference, live, np.array([0, 6, 9]), np.array([False, False]), 10.0)
    assert by_phi.degrees.tolist() == [1, 2]


def test_what_is_counted_and_shown_stays_as_it_was() -> None:
    (one,) = compared(objects(*"aaabbc"), objects("a", "new", "new"), DataType.BYTES)
    assert (one.reference.counts, one.live.counts, one.live.outside) == ((3, 2, 1), (1, 0, 0), 2)
    plain = distances(np.array([3, 2, 1, 0]), np.array([1, 0, 0, 2]), np.array([0, 4]))
    shown = {name: value for name, value in one.distances.items() if value is not None and name != "psi"}
    assert shown == {name: getattr(plain, name)[0] for name in shown} and shown["degrees"] == 3
