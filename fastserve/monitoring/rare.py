"""Rare categories: chance alone decides which of them come, and so they are judged as one."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastserve_core.distance import Distances, distances

LEAST_ROWS = 5.0
"""That a category expects on either side where it is judged by itself (Cochran, Biometrics 10, 1954)."""


def pooled(
    reference: NDArray[np.int64],
    live: NDArray[np.int64],
    offsets: NDArray[np.int64],
    apart: NDArray[np.bool_],
    least_rows: float = LEAST_ROWS,
) -> Distances:
    """Give the distances of categories of which all rare ones are one, together with what is unseen.

    Rare is a category that expects less than `least_rows` on one of the sides, by its share of both sides'
    rows. By its share of the reference's it would seem more frequent than it is, because it is known for
    having come there (Good, Biometrika 40, 1953), as much as what is unseen would seem never to come.

    Parameters
    ----------
    reference, live : int64 [bins]
        Feature f owns the bins [offsets[f], offsets[f + 1]), at least one; the last is what is unseen.
    apart : bool [features]
        Whether what is unseen is no rare category but a bin of its own.
    """
    sizes = np.diff(offsets)
    rows, live_rows = (np.add.reduceat(counts, offsets[:-1]) for counts in (reference, live))
    smaller = np.minimum(rows, live_rows) / np.maximum(rows + live_rows, 1)
    rare = (reference + live) * np.repeat(smaller, sizes) < least_rows
    rare[offsets[1:] - 1] = ~apart
    owner = np.repeat(np.arange(sizes.size), sizes)[rare]
    into = np.arange(rare.size)
    last = np.zeros(sizes.size, np.int64)
    last[owner] = into[rare]
    into[rare] = last[owner]
    first, second = np.zeros_like(reference), np.zeros_like(live)
    np.add.at(first, into, reference)
    np.add.at(second, into, live)
    return distances(first, second, offsets)


def known_by_chance(counts: Sequence[int], unseen: int, phi: float) -> int:
    """Give the reference's rows of such categories as others may have had in their place: what came once.

    Where rows come in clusters, whose size phi says, that is in one of them. Where more categories came than
    are kept, the rarest of these came by chance more often than the others: all of what came up to four times
    (Good, again), of more two standard deviations, in clusters.
    """
    rarest = min(filter(None, counts), default=0) if unseen else 0
    most = rarest + 1.5 * phi
    return int(sum(min(rows, 2 * math.sqrt(rows * phi)) for rows in counts if rows < most))


def is_more(
    before: ArrayLike, rows: ArrayLike, after: ArrayLike, live_rows: ArrayLike, phi: ArrayLike
) -> NDArray[np.bool_]:
    """Say where live rows hold more `after` than chance gives beside `before`: twice, and three deviations.

    Each argument is one number, or one a feature. The standard deviation is that of two counts which chance
    gives the same share; rows that came once vary more than such a count (Robbins, AMS 39, 1968): so twice.
    """
    sides = np.multiply(rows, live_rows, dtype=np.float64)
    here = np.multiply(after, rows, dtype=np.float64)
    there = np.multiply(before, live_rows, dtype=np.float64)
    return (here > 2 * there) & ((here - there) ** 2 > 9 * sides * np.add(before, after) * phi)
