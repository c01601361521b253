"""The distances by their definitions, one feature at a time, in rational numbers as far as they go."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

Counts = Sequence[int]


def shares(counts: Counts) -> list[Fraction]:
    rows = sum(counts)
    return [Fraction(count, rows) for count in counts]


def gaps(reference: Counts, live: Counts) -> list[Fraction]:
    """F - G at the end of every bin."""
    pairs = zip(accumulate(shares(reference)), accumulate(shares(live)), strict=True)
    return [f - g for f, g in pairs]


def psi_raw(reference: Counts, live: Counts, epsilon: float) -> float:
    floor = Fraction(epsilon)
    total = 0.0
    for p, q in zip(shares(reference), shares(live), strict=True):
        high, low = max(p, floor), max(q, floor)
        total += float(high - low) * math.log(high / low)
    return total


def hellinger(reference: Counts, live: Counts) -> float:
    pairs = zip(shares(reference), shares(live), strict=True)
    return math.sqrt(sum((math.sqrt(p) - math.sqrt(q)) ** 2 for p, q in pairs) / 2)


def total_variation(reference: Counts, live: Counts) -> float:
    return float(sum(abs(p - q) for p, q in zip(shares(reference), shares(live), strict=True)) / 2)


def kolmogorov_smirnov(reference: Counts, live: Counts) -> float:
    return float(max(abs(gap) for gap in gaps(reference, live)))


def wasserstein(reference: Counts, live: Counts, edges: Sequence[float]) -> float:
    """Mass even within a bin: |F - G| is one trapezium a bin, or two triangles where it crosses 0."""
    area, before = Fraction(0), Fraction(0)
    for at, gap in enumerate(gaps(reference, live)):
        width = Fraction(edges[at + 1]) - Fraction(edges[at])
        if before * gap < 0:
            crossing = before / (before - gap)
            area += width * (abs(before) * crossing + abs(gap) * (1 - crossing)) / 2
        else:
            area += width * abs(before + gap) / 2
        before = gap
    return float(area)
