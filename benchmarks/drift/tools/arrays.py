"""NumPy: what one writes without thinking further, over the reference's quantiles or the range of both."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.drift.contestants import (
    BINS,
    FEATURES,
    PSI_ALARM,
    Contestant,
    Flags,
    Matrix,
    Reading,
    Sample,
    Tool,
    reference,
)

Split = Callable[[Any, Any], tuple[Any, Any]]


def quantiles(before: Any, live: Any) -> tuple[Any, Any]:
    edges = np.quantile(before, np.arange(1, BINS) / BINS).astype(before.dtype)
    first, second = (np.bincount(np.searchsorted(edges, side), minlength=BINS) for side in (before, live))
    return first, second


def pooled(before: Any, live: Any) -> tuple[Any, Any]:
    edges = np.histogram_bin_edges(np.concatenate([before, live]), BINS)
    return np.histogram(before, edges)[0], np.histogram(live, edges)[0]


def psi(split: Split, before: Any, live: Any) -> float:
    p, q = (np.maximum(counts / counts.sum(), 1e-4) for counts in split(before, live))
    return float(np.sum((p - q) * np.log(p / q)))


def js(split: Split, before: Any, live: Any) -> float:
    shares = [counts / counts.sum() for counts in split(before, live)]
    middle = (shares[0] + shares[1]) / 2
    parts = [np.sum(one[one > 0] * np.log2(one[one > 0] / middle[one > 0])) / 2 for one in shares]
    return float(np.sqrt(max(0.0, sum(parts))))


def feed_quantiles(rows: Matrix) -> Callable[[Any], Any]:
    edges = np.quantile(reference(), np.arange(1, BINS) / BINS, axis=0).astype(np.float32)
    return lambda block: [
        np.bincount(np.searchsorted(edges[:, f], block[:, f]), minlength=BINS) for f in range(FEATURES)
    ]


def feed_pooled(rows: Matrix) -> Callable[[Any], Any]:
    return lambda block: [np.histogram(block[:, f], BINS) for f in range(FEATURES)]


def contestant(
    name: str, does: str, feed: Callable[[Matrix], Callable[[Any], Any]], split: Split
) -> Contestant:
    def read(before: Sample, live: Sample) -> list[Reading]:
        found = psi(split, before, live)
        return [
            Reading("PSI", found, found > PSI_ALARM),
            Reading("Jensen-Shannon", js(split, before, live), None),
        ]

    def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
        for rows in windows:
            yield np.array([psi(split, before[:, f], rows[:, f]) > PSI_ALARM for f in range(FEATURES)])

    return Contestant(name, does, "PSI > 0.1", feed, read, alarms)


TOOL = Tool(
    "NumPy",
    "numpy",
    __name__,
    (
        contestant(
            "NumPy searchsorted + bincount", "counts of 16 reference quantiles", feed_quantiles, quantiles
        ),
        contestant("NumPy histogram", "counts of 16 bins over the range of both", feed_pooled, pooled),
    ),
)
