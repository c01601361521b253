"""Reference and live counts of a tensor side by side: how far apart each feature is, and what is off."""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fastserve.monitoring.bins import Bins, is_folded
from fastserve.monitoring.profile import CategoryFeature, NumberFeature, Sketch, TensorProfile
from fastserve.monitoring.rare import LEAST_ROWS, is_more, known_by_chance, pooled
from fastserve_core.distance import Distances, distances
from fastserve_core.sketch import CategorySketch, NumberSketch

SOME, HIGH = 0.1, 0.25
"""Usual bounds of the population stability index: a look is worth it; another population."""

_TWO_BINS = np.array([0, 2], np.int64)


class Moved(NamedTuple):
    """A share of the rows on both sides: how far apart, by two bins."""

    psi: float | None
    """Less its bias; None without rows."""
    may_be_chance: bool
    """Whether they lie within what chance alone gives; as `FeatureComparison.may_be_chance`."""

    @property
    def grade(self) -> str:
        """As `FeatureComparison.grade`."""
        return _graded(self.psi, self.may_be_chance)


class Stated(BaseModel):
    """What a report states: checked where it is read, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Moments(Stated):
    """Of a number's finite values; None where there was none, or where float64 cannot say it."""

    mean: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None


class Side(Stated):
    """One feature's rows on one side."""

    rows: int
    missing: int
    counts: tuple[int, ...]
    """By bin (`FeatureComparison.edges`; the first and last are out of range) or by category."""
    outside: int
    """Rows out of the reference's range, or of an unseen category; infinities included."""
    infinite: int = 0
    moments: Moments | None = None
    """Of numbers only."""


class FeatureComparison(Stated):
    """How one feature's live rows differ from the reference."""

    tensor: str
    role: str
    """input or output."""
    feature: str
    kind: str
    """number or category."""
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    reference: Side
    live: Side
    distances: dict[str, float | None]
    """psi, psi_raw, jensen_shannon, hellinger, total_variation, kolmogorov_smirnov, wasserstein, chi_square,
    degrees; None where a statistic has no meaning, as Wasserstein of categories, or without rows."""
    phi: float
    """The reference's overdispersion: divide chi_square by it where rows depend on each other."""
    phi_windows: int = 0
    """Reference windows that `phi` was taken over; 0: it was not, and is 1 for that."""

    @property
    def excess(self) -> float | None:
        """Chi-square over its degrees of freedom and phi: about 1 without drift; None without rows.

        Of categories that of `pooled`, where one bin is left also None. Rows that depend on each other say as
        much as phi times fewer (Rao and Scott, JASA 76, 1981), and so a bin expects phi times as many.
        """
        chi_square, degrees = self._judged
        return chi_square / degrees / self.phi if chi_square is not None and degrees else None

    @cached_property
    def _judged(self) -> tuple[float | None, float | None]:
        """Chi-square and its degrees of freedom, of which is said what is chance."""
        if self.kind == "number" or (len(self.categories) <= 2 and not self.live.outside):  # none to pool
            return self.distances.get("chi_square"), self.distances.get("degrees")
        before = self.reference.outside + self._alone
        apart = is_more(before, self.reference.rows, [self.live.outside], self.live.rows, self.phi)
        reference, live = (
            np.array([*side.counts, side.outside], np.int64) for side in (self.reference, self.live)
        )
        found = pooled(reference, live, np.array([0, live.size]), apart, LEAST_ROWS * self.phi)
        return finite_or_none(found.chi_square.item()), found.degrees.item()

    @property
    def may_be_chance(self) -> bool:
        """Whether the difference lies within three standard deviations of what chance alone gives.

        A guide for the eye, with few rows above all; it is no test.
        """
        excess, degrees = self.excess, self._judged[1]
        return excess is None or not degrees or excess <= 1 + 3 * math.sqrt(2 / degrees)

    @property
    def missing(self) -> Moved:
        """How far the share of missing values has moved.

        The other distances are of the values that are there, and know nothing of those that are not.
        """
        return self._moved(self.reference.missing, self.live.missing)

    @property
    def outside(self) -> Moved:
        """How far the share of values out of range, or unseen, has moved.

        The other distances of a number take them for values of its outermost bins, which may be full anyhow.
        By chance alone it is as large as that of the reference's rows that the others do not cover: both ends
        of a number's range, and every category that came once. Where more categories came than are kept, the
        rarest of these came by chance more often than the others: the square root of their counts is chance.
        """
        return self._moved(self._outside_by_chance, self.live.outside)

    @property
    def _outside_by_chance(self) -> int:
        """Give the reference's rows out of range or unseen, and as many more as chance may have kept away."""
        before = self.reference.outside
        as_live = self.reference.rows * self.live.outside // max(self.live.rows, 1)
        if as_live <= before:
            return before
        return min(before + (2 if self.kind == "number" else self._alone), as_live)

    @property
    def _alone(self) -> int:
        """Give the reference's rows of such categories as others may have had in their place."""
        return known_by_chance(self.reference.counts, self.reference.outside, self.phi)

    def _moved(self, before: int, after: int) -> Moved:
        reference, live = (
            np.array([part, max(side.rows - part, 0)], np.int64)
            for part, side in ((before, self.reference), (after, self.live))
        )
        found = distances(reference, live, _TWO_BINS)
        chi_square = finite_or_none(found.chi_square.item())
        by_chance = chi_square is None or chi_square / self.phi <= 1 + 3 * math.sqrt(2)
        return Moved(finite_or_none(found.psi.item()), by_chance)

    @property
    def grade(self) -> str:
        """What its PSI is called: none, low, some or high; what chance alone may give is low."""
        return _graded(self.distances.get("psi"), self.may_be_chance)

    @property
    def severity(self) -> float:
        """How far up in a report it belongs: its PSI or that of what is missing or out of range, the worst.

        What chance alone may give stays below what is marked: of rare categories and few rows PSI is large.
        Infinite where the reference has values and all live ones are missing, -infinite without rows.
        """
        moved = Moved(self.distances.get("psi"), self.may_be_chance), self.missing, self.outside
        known = [
            psi * SOME / (psi + SOME) if may_be_chance and psi > 0 else psi
            for psi, may_be_chance in moved
            if psi is not None
        ]
        return math.inf if self.is_gone else max(known, default=-math.inf)

    @property
    def is_gone(self) -> bool:
        """Whether all live values are missing, and some of the reference are not: nothing can be compared."""
        there = self.reference.rows - self.reference.missing
        return there > 0 and 0 < self.live.rows == self.live.missing


def compare(profile: TensorProfile, sketch: Sketch) -> list[FeatureComparison]:
    """Set what a sketch has counted beside the reference, feature by feature.

    Parameters
    ----------
    profile
        One tensor's reference.
    sketch
        What `profile.sketch()` made, with the live rows counted; nobody else updates it meanwhile.

    Returns
    -------
    list of FeatureComparison
        In the order of the profile's features. What is out of the reference's range counts in the outermost
        bin in range for the distances, unless the reference is constant; what is unseen is a bin of its own.
    """
    counts = sketch.counts.tolist()
    binned = [tuple(counts[start:end]) for start, end in pairwise(sketch.offsets.tolist())]
    if isinstance(sketch, NumberSketch):
        live, edges = _live_numbers(sketch, binned), _boundaries(profile, sketch)
    else:
        live, edges = _live_categories(sketch, binned), None
    found = Bins(profile).measure(sketch, edges)
    return [
        FeatureComparison(
            tensor=profile.tensor,
            role=profile.role,
            feature=one.name,
            kind=one.kind,
            edges=one.edges if isinstance(one, NumberFeature) else (),
            categories=tuple(map(_said, one.categories)) if isinstance(one, CategoryFeature) else (),
            reference=_reference(one),
            live=side,
            distances=figures,
            phi=one.phi,
            phi_windows=one.windows,
        )
        for one, side, figures in zip(profile.features, live, _by_feature(found), strict=True)
    ]


def finite_or_none(value: float) -> float | None:
    """Give a value as JSON can hold it: None for NaN and the infinities."""
    return value if math.isfinite(value) else None


def _graded(psi: float | None, may_be_chance: bool) -> str:
    if psi is None:
        return "none"
    if may_be_chance:
        return "low"
    return "high" if psi >= HIGH else "some" if psi >= SOME else "low"


def _live_numbers(sketch: NumberSketch, binned: Sequence[tuple[int, ...]]) -> list[Side]:
    missing = sketch.missing.tolist()
    infinite = (sketch.negative_infinite + sketch.positive_infinite).tolist()
    mean, sd = sketch.mean.tolist(), np.sqrt(sketch.variance).tolist()
    minimum, maximum = sketch.minimum.tolist(), sketch.maximum.tolist()
    return [
        Side(
            rows=sketch.rows,
            missing=missing[f],
            counts=counts,
            outside=counts[0] + counts[-1],
            infinite=infinite[f],
            moments=Moments(
                mean=finite_or_none(mean[f]),
                sd=finite_or_none(sd[f]),
                minimum=finite_or_none(minimum[f]),
                maximum=finite_or_none(maximum[f]),
            ),
        )
        for f, counts in enumerate(binned)
    ]


def _live_categories(sketch: CategorySketch, binned: Sequence[tuple[int, ...]]) -> list[Side]:
    missing, unseen = sketch.missing.tolist(), sketch.unseen.tolist()
    return [
        Side(rows=sketch.rows, missing=missing[f], counts=counts, outside=unseen[f])
        for f, counts in enumerate(binned)
    ]


def _reference(feature: NumberFeature | CategoryFeature) -> Side:
    if isinstance(feature, CategoryFeature):
        return Side(rows=feature.rows, missing=feature.missing, counts=feature.counts, outside=feature.unseen)
    return Side(
        rows=feature.rows,
        missing=feature.missing,
        counts=feature.counts,
        outside=feature.counts[0] + feature.counts[-1],
        infinite=feature.negative_infinite + feature.positive_infinite,
        moments=Moments(mean=feature.mean, sd=feature.sd, minimum=feature.minimum, maximum=feature.maximum),
    )


def _by_feature(found: Distances) -> list[dict[str, float | None]]:
    """Give distances by name for each feature; one without rows on one side has no figure at all."""
    columns = {name: values.tolist() for name, values in found._asdict().items()}
    counted = np.isfinite(found.psi_raw).tolist()
    return [
        {name: finite_or_none(float(values[f])) if some else None for name, values in columns.items()}
        for f, some in enumerate(counted)
    ]


def _boundaries(profile: TensorProfile, sketch: NumberSketch) -> NDArray[np.float64]:
    """Of the bins that folding gives; a constant's outer bins end at the outermost values of both sides."""
    found: list[float] = []
    features = [one for one in profile.features if isinstance(one, NumberFeature)]
    lows, highs = sketch.minimum.tolist(), sketch.maximum.tolist()
    for one, low, high in zip(features, lows, highs, strict=True):
        if is_folded(one.edges):
            found += one.edges
        else:
            ends = [end for end in (low, high, one.minimum, one.maximum) if end is not None and end == end]
            found += (min([one.edges[0], *ends]), *one.edges, max([one.edges[-1], *ends]))
    return np.array(found)


def _said(category: str | bool | int) -> str:
    return str(category).lower() if isinstance(category, bool) else str(category)
