"""What the first pass over reference rows keeps of them, bounded whatever comes: a sample, common values."""

import math
import sys
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve.types import Array

MAX_TEXT = 256
"""Longer text is nobody's category: it would be a row's content, and a profile has none in it."""

_SEED = 1996
_LARGEST = sys.float_info.max


class RowSample:
    """Rows of one tensor: all of them up to a limit, beyond it a uniform sample; not thread-safe.

    The same rows in blocks of other sizes give the same sample.
    """

    def __init__(self, limit_rows: int) -> None:
        self._limit = limit_rows
        self._random = np.random.default_rng(_SEED)
        self._rows: list[Array] = []
        self._keys: list[NDArray[np.float64]] = []
        self._held = 0
        self._highest = 1.0

    def add(self, rows: Array) -> None:
        """Take in a block [rows, features]; what is kept of it is copied."""
        # Each row draws a key, and the rows with the smallest keys stay.
        keys = self._random.random(len(rows))
        chosen = keys < self._highest
        self._rows.append(rows[chosen])
        self._keys.append(keys[chosen])
        self._held += len(self._rows[-1])
        if self._held > self._limit + self._limit // 2:
            self._shrink()

    def column(self, feature: int) -> Array:
        """Give a feature's values [at most the limit], in the order in which the rows came."""
        if self._held > self._limit:
            self._shrink()
        # Column by column, so that the rows are not there twice.
        return np.concatenate([rows[:, feature] for rows in self._rows])

    def _shrink(self) -> None:
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        smallest = np.sort(np.argpartition(keys, self._limit)[: self._limit])
        self._highest = float(keys[smallest].max())
        self._keys, self._rows, self._held = [keys[smallest]], [rows[smallest]], self._limit


class NumberRanges:
    """Where the values of one tensor's numbers lie: exact ends, sampled quantiles; not thread-safe."""

    def __init__(self, features: int, limit_rows: int) -> None:
        self._sample = RowSample(limit_rows)
        self._low: list[Any] = [math.inf] * features
        self._high: list[Any] = [-math.inf] * features

    def add(self, rows: Array) -> None:
        """Take in a block [rows, features] of floats or whole numbers."""
        self._sample.add(rows)
        if not len(rows):
            return
        if rows.dtype.kind == "f":
            finite = np.isfinite(rows)
            low = rows.min(axis=0, where=finite, initial=np.inf)
            high = rows.max(axis=0, where=finite, initial=-np.inf)
        else:
            low, high = rows.min(axis=0), rows.max(axis=0)
        self._low = list(map(min, self._low, low.tolist()))
        self._high = list(map(max, self._high, high.tolist()))

    def edges(self, bins: int, slack: float) -> list[tuple[float, ...]]:
        """Give the edges of every feature: the range, and within it the quantiles, ties merged.

        The first edge lies just below the smallest value, the last is the largest: two edges of a constant.
        Without any finite value the one edge is 0. With `slack` no edge is nearer to a value than that part
        of the largest magnitude, or than half way to the next value.
        """
        return [
            _edges(self._sample.column(f), low, high, bins, slack) if low <= high else (0.0,)
            for f, (low, high) in enumerate(zip(self._low, self._high, strict=True))
        ]


def _edges(values: Array, low: Any, high: Any, bins: int, slack: float) -> tuple[float, ...]:
    exact = values.astype(np.float64)
    exact = exact[np.isfinite(exact)]
    with np.errstate(over="ignore", invalid="ignore"):  # between values of 1e308 and -1e308
        # Not linspace, which gives 0.30000000000000004 of ten bins and so another side of a tie.
        inner = np.quantile(exact, np.arange(1, bins) / bins) if exact.size else np.empty(0)
        first, last = float(np.nextafter(float(low), -np.inf)), float(high)
    if not math.isfinite(first):
        first = float(low)
    if last < high:  # a whole number beyond 2**53, rounded down
        last = float(np.nextafter(last, np.inf))
    inner = inner[(inner > first) & (inner < last)]
    if slack:
        apart = slack * max(abs(first), abs(last))
        known = np.unique(np.append(exact, last))
        at = np.searchsorted(known, inner, "right")
        below, above = known[at - 1], known[at]
        room = np.minimum(above / 2 - below / 2, apart)
        inner = np.clip(inner, below + room, above - room)
        least = float(np.nextafter(0.0, -1.0)) if low >= 0 else -_LARGEST  # what was never negative is not
        first, last = max(first - apart, least), min(last + apart, _LARGEST)
    return tuple(np.unique([first, *inner, last]).tolist())


class CommonValues:
    """The most frequent values of one feature, exact up to a limit of distinct ones; not thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[Any] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, values: Array) -> None:
        """Take in values [rows]: objects of which str are counted, unless long, or whole numbers."""
        if values.dtype == object:
            self._counts.update([one for one in values.tolist() if type(one) is str and len(one) <= MAX_TEXT])
        else:
            distinct, counts = np.unique(values, return_counts=True)
            self._counts.update(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
        if len(self._counts) > self._limit:
            self._counts = Counter(dict(self._counts.most_common(self._limit // 2)))

    def numbers(self, most: int) -> tuple[int, ...]:
        """Give the most frequent whole numbers, ascending."""
        return tuple(sorted(self._common(most)))

    def texts(self, most: int) -> tuple[str, ...]:
        """Give the most frequent texts in that order, without the empty one and such without UTF-8."""
        for value in [value for value in self._counts if not _is_category(value)]:
            del self._counts[value]
        return tuple(self._common(most))

    def _common(self, most: int) -> list[Any]:
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [value for value, _ in ordered[:most]]


def _is_category(value: str) -> bool:
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False
