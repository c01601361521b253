"""How much more the reference's windows differ from each other than windows of independent rows would."""

import numpy as np
from numpy.typing import NDArray

from fastserve.monitoring.rare import LEAST_ROWS

_MIN_WINDOWS = 2


class Dispersion:
    """Chi-square of windows against all of them together, without keeping the windows; not thread-safe.

    Parameters
    ----------
    offsets : int64 [features + 1]
        Feature f owns the bins [offsets[f], offsets[f + 1]), at least one.
    """

    def __init__(self, offsets: NDArray[np.int64]) -> None:
        self._starts = offsets[:-1]
        self._sizes = np.diff(offsets)
        features = self._starts.size
        self._squares = np.zeros(int(offsets[-1]))
        self._rows = np.zeros(features)
        self._windows = np.zeros(features, np.int64)

    def add(self, counts: NDArray[np.int64]) -> None:
        """Take in one window's counts: int64 [bins]. A feature without rows in it has no such window."""
        rows = np.add.reduceat(counts, self._starts)
        share = counts.astype(np.float64) / np.repeat(np.maximum(rows, 1), self._sizes)
        self._squares += counts * share
        self._rows += rows
        self._windows += rows > 0

    def phi(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Give the overdispersion of every feature, at least 1, and the windows that it was taken over.

        Parameters
        ----------
        counts : int64 [bins]
            Of the whole reference, the rows of no window included.

        Returns
        -------
        float64 [features], int64 [features]
            Mean over windows of chi-square / (bins that have rows - 1). Chi-square, sum (c - n p)^2 / (n p)
            over the bins, is sum c^2 / (n p) - n. Or that of the bins that expect enough rows in a window not
            to be rare, where it is more: what comes in one cluster only says little of how clusters vary.
            1 and 0 without meaning: a constant, too few windows.
        """
        total = np.add.reduceat(counts, self._starts)
        shares = counts / np.repeat(np.maximum(total, 1), self._sizes)
        terms = np.divide(self._squares, shares, out=np.zeros_like(shares), where=shares > 0)
        expected = np.repeat(self._rows, self._sizes) * shares
        often = expected >= LEAST_ROWS * np.repeat(np.maximum(self._windows, 1), self._sizes)
        varied = (total > 0) & (np.maximum.reduceat(shares, self._starts) < 1)
        taken = varied & (self._windows >= _MIN_WINDOWS)
        found = np.ones(total.size)
        for some in (counts > 0, often):
            square = np.add.reduceat((terms - expected) * some, self._starts)
            degrees = np.add.reduceat((1 - shares) * some, self._starts) * self._windows
            mean = np.divide(square, degrees, out=np.zeros_like(square), where=taken & (degrees > 0))
            found = np.maximum(found, mean)
        return found, np.where(taken, self._windows, 0)
