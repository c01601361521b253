"""Bounds of the buckets that `fastserve_core.histogram` counts in: none is wider than an eighth of its value.

Values are in units: microseconds (rounded up) or rows. Every power of two up to 2**26 is a bucket's upper
bound, so that counts by powers of two, as Prometheus shows them, are exact.
"""

import math

from fastserve_core.histogram import BUCKETS

LAST = BUCKETS - 1
"""The bucket of everything above 2**26 units."""


def bound(index: int) -> float:
    """Give a bucket's inclusive upper bound in units; infinity for the last."""
    if index < 8:
        return float(index + 1)
    if index == LAST:
        return math.inf
    octave, eighth = divmod(index, 8)
    return float((eighth + 9) << (octave - 1))
