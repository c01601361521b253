"""Kolmogorov–Smirnov and Wasserstein of the samples themselves: of every distinct value, not of bins."""

import numpy as np
from numpy.typing import NDArray

from fastserve.errors import FastserveError
from fastserve.monitoring.comparing import finite_or_none
from fastserve.types import Array
from fastserve_core.distance import distances

MAX_DISTINCT = 50_000_000
"""Distinct values of one side, all features together: 16 bytes each."""

_WAITING_VALUES = 2**20


class DistinctValues:
    """How often each value of each feature came on one side, infinities too; not thread-safe."""

    def __init__(self, features: int) -> None:
        self.features = features
        self._values: list[NDArray[np.float64]] = [np.empty(0)] * features
        self._counts: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * features
        self._waiting: list[Array] = []
        self._wait = 0

    def add(self, rows: Array) -> None:
        """Take in a block: float64 [rows, features]; what is missing is left out.

        Raises
        ------
        FastserveError
            More than MAX_DISTINCT distinct values.
        """
        self._waiting.append(rows)
        self._wait += rows.size
        # As much again as is held, so that the sorting costs the same a value however many there are.
        if self._wait > max(_WAITING_VALUES, sum(values.size for values in self._values)):
            self._merge()

    def of(self, feature: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Give a feature's values, rising, and how often each came."""
        self._merge()
        return self._values[feature], self._counts[feature]

    def _merge(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting, self._wait = [], 0
        for f in range(rows.shape[1]):
            column = rows[:, f]
            values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            self._values[f], self._counts[f] = _sum(
                np.concatenate([self._values[f], values]), np.concatenate([self._counts[f], counts])
            )
        held = sum(values.size for values in self._values)
        if held > MAX_DISTINCT:
            raise FastserveError(
                f"more than {MAX_DISTINCT} distinct values: leave out --exact, or take fewer --columns"
            )


def exact_distances(
    reference: DistinctValues, live: DistinctValues
) -> list[tuple[float | None, float | None]]:
    """Give each feature's Kolmogorov–Smirnov and Wasserstein distance; None without rows on one side.

    An infinity is a value like another to the first; the second is of the finite values.
    """
    found: list[tuple[float | None, float | None]] = []
    for f in range(reference.features):
        (first, first_counts), (second, second_counts) = reference.of(f), live.of(f)
        if not first.size or not second.size:
            found.append((None, None))
            continue
        values = np.union1d(first, second)
        counts = _at(values, first, first_counts), _at(values, second, second_counts)
        finite = np.isfinite(values)
        if finite.all():
            found.append(_measured(values, *counts))
        else:
            rises = [np.cumsum(each) / each.sum() for each in counts]
            wasserstein = _measured(values[finite], counts[0][finite], counts[1][finite])[1]
            found.append((float(np.abs(rises[0] - rises[1]).max()), wasserstein))
    return found


def _measured(
    values: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[float | None, float | None]:
    if not first.any() or not second.any():
        return None, None
    offsets, edges = np.array([0, values.size], np.int64), np.append(values, values[-1])
    measured = distances(first, second, offsets, edges, steps=True)
    kolmogorov_smirnov, wasserstein = measured.kolmogorov_smirnov.item(), measured.wasserstein.item()
    return finite_or_none(kolmogorov_smirnov), finite_or_none(wasserstein)


def _sum(
    values: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    distinct, where = np.unique(values, return_inverse=True)
    summed = np.zeros(distinct.size, np.int64)
    np.add.at(summed, where, counts)
    return distinct, summed


def _at(
    values: NDArray[np.float64], own: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    spread = np.zeros(values.size, np.int64)
    spread[np.searchsorted(values, own)] = counts
    return spread
