"""Buckets of durations and of rows: 193, none wider than an eighth of its value; the workers count in them.

Values are in units: microseconds (rounded up) or rows. Every power of two up to 2**26 is a bucket's upper
bound, so that counts by powers of two, as Prometheus shows them, are exact.
"""

import math
from collections.abc import Mapping

LAST = 192
"""The bucket of everything above 2**26 units."""

_TOP = 2**26


def index_of(units: int) -> int:
    """Give the bucket of a value; what is below 1 counts as 1."""
    below = max(units, 1) - 1
    if below < 8:
        return below
    if below >= _TOP:
        return LAST
    power = below.bit_length() - 1
    return (power - 2) * 8 + ((below >> (power - 3)) & 7)


def bound(index: int) -> float:
    """Give a bucket's inclusive upper bound in units; infinity for the last.

    Raises
    ------
    ValueError
        There is no such bucket.
    """
    if not 0 <= index <= LAST:
        raise ValueError(f"buckets are numbered 0 to {LAST}, not {index}")
    if index < 8:
        return float(index + 1)
    if index == LAST:
        return math.inf
    octave, eighth = divmod(index, 8)
    return float((eighth + 9) << (octave - 1))


def quantile(buckets: Mapping[int, int], q: float) -> float:
    """Give the upper bound of the bucket that holds the q-quantile by rank, in units; NaN without events.

    It is never below the value itself and at most an eighth above it; infinity beyond the largest bound.

    Raises
    ------
    ValueError
        `q` is not in 0 to 1, or there is no such bucket.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies in 0 to 1, not {q}")
    total = sum(buckets.values())
    if not total:
        return math.nan
    rank, seen = max(math.ceil(q * total), 1), 0
    for index in sorted(buckets):
        seen += buckets[index]
        if seen >= rank:
            return bound(index)
    return bound(max(buckets))
