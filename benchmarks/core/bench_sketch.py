"""One update of a number sketch by dtype, rows and features, beside NumPy counting the same bins.

Run with `pytest benchmarks/core/bench_sketch.py --benchmark-only`; a line's time is for all rows together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastserve_core.sketch import NumberSketch

EDGES = np.linspace(-2, 2, 17)
GENERATOR = np.random.default_rng(20130101)


def ours(
    rows: int, features: int, dtype: str = "f4", missing: float = 0.0, edges: Any = EDGES
) -> Callable[[], None]:
    """Counts, moments and missing values of `rows`."""
    values = GENERATOR.normal(0, 1, (rows, features))
    if np.dtype(dtype).kind == "f":
        values[GENERATOR.random(values.shape) < missing] = np.nan
    table, update = np.abs(values * 3).astype(dtype), NumberSketch([edges] * features).update
    return lambda: update(table)


def numpy_counts(rows: int, features: int) -> Callable[[], None]:
    """The counts alone."""
    values = GENERATOR.standard_normal((rows, features), np.float32)

    def run() -> None:
        for f in range(features):
            np.bincount(np.searchsorted(EDGES, values[:, f], side="left"), minlength=18)

    return run


def reading(features: int) -> Callable[[], Any]:
    """All counts after one more row."""
    sketch, row = NumberSketch([EDGES] * features), np.zeros((1, features), np.float32)

    def run() -> Any:
        sketch.update(row)
        return sketch.counts

    return run


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "1 row x 32": lambda: ours(1, 32),
    "32 rows x 32": lambda: ours(32, 32),
    "4096 rows x 32": lambda: ours(4096, 32),
    "4096 rows x 32, 1 % missing": lambda: ours(4096, 32, missing=0.01),
    "4096 rows x 32, float64": lambda: ours(4096, 32, "f8"),
    "4096 rows x 32, int64": lambda: ours(4096, 32, "i8"),
    "4096 rows x 32, uint8": lambda: ours(4096, 32, "u1"),
    "4096 rows x 32, 256 edges": lambda: ours(4096, 32, edges=np.linspace(-2, 2, 256)),
    "4096 rows x 3": lambda: ours(4096, 3),
    "4096 rows x 33": lambda: ours(4096, 33),
    "1 row x 32 and reading the counts": lambda: reading(32),
    "NumPy counts, 4096 rows x 32": lambda: numpy_counts(4096, 32),
}


@pytest.mark.parametrize("case", CASES)
def test_number_sketch(benchmark: Any, case: str) -> None:
    benchmark(CASES[case]())
