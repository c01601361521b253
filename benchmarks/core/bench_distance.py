"""All distances of 32 features x 18 bins in one call, beside NumPy and SciPy working from the same counts.

Run with `pytest benchmarks/core/bench_distance.py --benchmark-only`; a line's time is for all features.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastserve_core.distance import distances

FEATURES, BINS = 32, 18
ROWS, LIVE_ROWS = 100_000, 1_000
SEED = 20130101

GENERATOR = np.random.default_rng(SEED)
SHAPE = GENERATOR.dirichlet(np.full(BINS, 5.0), FEATURES)
REFERENCE = GENERATOR.multinomial(ROWS, SHAPE)
LIVE = GENERATOR.multinomial(LIVE_ROWS, SHAPE)
EDGES = np.sort(GENERATOR.standard_normal((FEATURES, BINS + 1)), axis=1)
OFFSETS = np.arange(FEATURES + 1, dtype=np.int64) * BINS


def ours(live: Any, *, edges: bool) -> Callable[[], Any]:
    reference, counts, bounds = REFERENCE.ravel(), live.ravel(), EDGES.ravel() if edges else None
    return lambda: distances(reference, counts, OFFSETS, bounds)


def numpy_vectorised() -> None:
    """PSI, Jensen-Shannon, Hellinger, total variation and KS, all features at once."""
    p = REFERENCE / REFERENCE.sum(axis=1, keepdims=True)
    q = LIVE / LIVE.sum(axis=1, keepdims=True)
    high, low = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    ((high - low) * np.log(high / low)).sum(axis=1)
    middle = (high + low) / 2
    np.sqrt((high * np.log2(high / middle) + low * np.log2(low / middle)).sum(axis=1) / 2)
    np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=1) / 2)
    np.abs(p - q).sum(axis=1) / 2
    np.abs(np.cumsum(p - q, axis=1)).max(axis=1)


def scipy_loop() -> Callable[[], None]:
    """Jensen-Shannon, Wasserstein and chi-square of one feature after the other."""
    stats: Any = pytest.importorskip("scipy.stats", reason="SciPy is the rival of this line")
    spatial: Any = pytest.importorskip("scipy.spatial.distance", reason="SciPy is the rival of this line")

    def run() -> None:
        for f in range(FEATURES):
            spatial.jensenshannon(REFERENCE[f], LIVE[f], base=2)
            stats.wasserstein_distance(EDGES[f, :-1], EDGES[f, :-1], REFERENCE[f], LIVE[f])
            stats.chi2_contingency(np.stack([REFERENCE[f], LIVE[f]]), correction=False)

    return run


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "fastserve: all measures": lambda: ours(LIVE, edges=True),
    "fastserve: all measures, much drift": lambda: ours(LIVE[:, ::-1].copy(), edges=True),
    "fastserve: categories": lambda: ours(LIVE, edges=False),
    "NumPy: five measures": lambda: numpy_vectorised,
    "SciPy: three measures": scipy_loop,
}


@pytest.mark.parametrize("case", CASES)
def test_distances(benchmark: Any, case: str) -> None:
    benchmark(CASES[case]())
