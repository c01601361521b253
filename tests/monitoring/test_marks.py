"""Nothing is marked that chance alone may give."""

import numpy as np
import pytest

from fastserve.monitoring.comparing import FeatureComparison, Side
from fastserve.types import DataType
from tests.monitoring.test_comparing import column, compared, objects


def test_a_few_values_out_of_a_small_reference_are_chance() -> None:
    (one,) = compared(np.arange(30.0)[:, None], np.linspace(0.0, 30.5, 1_000)[:, None])
    assert one.live.outside == 50 and one.outside.may_be_chance
    (few,) = compared(np.arange(100.0)[:, None], column(*range(5, 100, 11), 100))
    assert (few.live.outside, few.outside.grade) == (1, "low")
    (ids,) = compared(objects(*"abcdefgh"), objects(*"efghijkl"), DataType.BYTES)
    assert ids.live.outside == 4 and ids.outside.may_be_chance


@pytest.mark.parametrize("live_rows", [1_000, 20_000])
def test_categories_that_the_reference_happens_to_lack_are_no_drift(live_rows: int) -> None:
    """Of a thousand as frequent as words; the plain PSI and chi-square know nothing of those to come."""
    rng, words = np.random.default_rng(0), np.arange(1, 1_001)
    shares = 1 / words / (1 / words).sum()
    for _ in range(10):
        reference, live = (
            rng.choice(words, (rows, 1), p=shares).astype(str).astype(object) for rows in (5_000, live_rows)
        )
        (one,) = compared(reference, live, DataType.BYTES)
        assert one.grade == one.outside.grade == "low" and one.excess is not None and one.excess < 2
        live[: live_rows // 5] = "new"
        (moved,) = compared(reference, live, DataType.BYTES)
        assert "low" not in (moved.outside.grade, moved.grade)


@pytest.mark.parametrize(("rows", "least"), [(5_000, 1), (6_000, 2)])
def test_who_was_kept_by_chance_among_too_many_categories_is_no_alarm(rows: int, least: int) -> None:
    """Of 3,000 the 1,000 that came most often are kept; in other rows they come less often."""
    rng, shares = np.random.default_rng(0), np.arange(1, 3_001) ** -0.7
    reference, live = (
        rng.choice(3_000, (size, 1), p=shares / shares.sum()).astype(str).astype(object)
        for size in (rows, 1_000)
    )
    (one,) = compared(reference, live, DataType.BYTES)
    assert (min(one.reference.counts), one.outside.grade) == (least, "low")
    assert one.live.outside / 1_000 > one.reference.outside / rows + 0.15
    before, after = (objects(*letters * 100) for letters in ("aaaaabbbbc", "aaaabbcccc"))
    assert compared(before, after, DataType.BYTES, max_categories=2)[0].outside.grade == "high"


def test_a_few_missing_values_are_chance() -> None:
    reference, live = np.arange(1_000.0), np.arange(50.0)
    reference[::20], live[::10] = np.nan, np.nan
    (one,) = compared(reference[:, None], live[:, None])
    assert one.missing.may_be_chance
    # Chi-square is 5.4 with one degree of freedom, and 1 + 3 standard deviations are 5.2.
    sides = [Side(rows=100, missing=missing, counts=(), outside=0) for missing in (10, 22)]
    for phi, chance in ((1.0, False), (1.1, True)):
        figures = {"reference": sides[0], "live": sides[1], "phi": phi}
        assert one.model_copy(update=figures).missing.may_be_chance is chance
    assert not one.model_copy(
        update={"live": one.live.model_copy(update={"missing": 25})}
    ).missing.may_be_chance


def test_chi_square_is_measured_by_what_chance_gives() -> None:
    (one,) = compared(column(1.0, 2.0, 3.0), column(1.0, 2.0))

    def with_figures(chi_square: float | None, degrees: float | None, phi: float = 1.0) -> FeatureComparison:
        figures = {"chi_square": chi_square, "degrees": degrees}
        return one.model_copy(update={"distances": figures, "phi": phi})

    assert with_figures(16.0, 8.0).excess == 2.0
    assert with_figures(0.0, 8.0).excess == 0.0
    assert with_figures(16.0, 8.0, 4.0).excess == 0.5
    assert [with_figures(*each).excess for each in ((None, 8.0), (16.0, 0.0), (16.0, None))] == [None] * 3
    # Of eight degrees of freedom the standard deviation is half of what is expected.
    assert [with_figures(chi, 8.0).may_be_chance for chi in (8.0, 20.0, 20.1)] == [True, True, False]
    assert [with_figures(chi, 8.0, 2.0).may_be_chance for chi in (40.0, 40.1)] == [True, False]
    assert with_figures(None, None).may_be_chance


def test_what_is_marked_comes_before_what_chance_may_give() -> None:
    """However large the PSI of sixteen bins is in ten rows."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(size, 1)) for size in (500, 10, 20)]
    (many,), (fewer,) = (compared(rows[0], live) for live in rows[1:])
    (moved,) = compared(rng.normal(size=(500, 1)), rng.normal(0.7, size=(100, 1)))
    psi = [one.distances["psi"] or 0.0 for one in (moved, many, fewer)]
    assert psi[0] < min(psi[1:]) and (moved.grade, many.grade, fewer.grade) == ("high", "low", "low")
    assert moved.severity == psi[0] > max(many.severity, fewer.severity)
    assert (many.severity < fewer.severity) == (psi[1] < psi[2])
