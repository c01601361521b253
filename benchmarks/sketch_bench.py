"""What it costs to watch a batch: NumberSketch beside plain reading of the same memory, and beside NumPy.

`python -m benchmarks.sketch_bench`: 32 float32 features, 16 bins (17 edges), one core; normal values, some of
them missing, and whole numbers. Exit code 1 when a figure is missed.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.serving.machine import describe
from fastserve_core.sketch import NumberSketch

FEATURES, BINS, ROWS = 32, 16, 2**20
BLOCKS = (256, 4096, 65536)
READ_SHARE, TIMES_NUMPY, ROW_NS, FEATURE_BYTES = 0.13, 20.0, 300.0, 400
SEED, REPEAT = 20130101, 7

Values = npt.NDArray[np.float32]


def seconds(work: Callable[[], Any], repeat: int = REPEAT) -> float:
    """Median of several."""
    took = []
    for _ in range(repeat):
        began_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - began_s)
    return median(took)


def in_numpy(values: Values, edges: list[Values]) -> None:
    """The counts alone, as one writes them without thinking further."""
    for f, mine in enumerate(edges):
        np.bincount(np.searchsorted(mine, values[:, f], side="left"), minlength=len(mine) + 1)


def tables() -> Iterator[tuple[str, Values]]:
    """Values as they come: spread evenly, with holes, and with many on the edges themselves."""
    rng = np.random.default_rng(SEED)
    normal = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    yield "normal", normal
    yield "5 % missing", np.where(rng.random(normal.shape, np.float32) < 0.05, np.float32(np.nan), normal)
    yield "whole numbers to 99", rng.integers(0, 100, normal.shape).astype(np.float32)


def edges_of(values: Values) -> list[npt.NDArray[np.float64]]:
    """The edges of 16 bins of equal weight, for every feature."""
    shares = np.linspace(0, 1, BINS + 1)
    return [np.nanquantile(values[:10_000, f].astype(float), shares) for f in range(FEATURES)]


def compare(values: Values) -> bool:
    """Print how fast blocks are counted; False where a figure is missed."""
    edges = edges_of(values)
    sketch = NumberSketch(edges)
    words = values.view(np.int64).ravel()
    # The fastest whole read that NumPy has: no arithmetic that could be the bottleneck.
    read_s = seconds(lambda: np.bitwise_or.reduce(words))
    single = [edge.astype(np.float32) for edge in edges]
    numpy_s = seconds(lambda: in_numpy(values[:65536], single), 3) * ROWS / 65536
    print(f"  plain read: {values.nbytes / read_s / 1e9:.1f} GB/s, {ROWS / read_s / 1e6:.0f} M rows/s")
    print(f"  NumPy searchsorted + bincount: {ROWS / numpy_s / 1e6:.2f} M rows/s")
    good = True
    for block in BLOCKS:

        def update(block: int = block) -> None:
            for start in range(0, ROWS, block):
                sketch.update(values[start : start + block])

        took_s = seconds(update)
        good &= read_s / took_s >= READ_SHARE and numpy_s / took_s >= TIMES_NUMPY
        print(
            f"  blocks of {block:5} rows: {ROWS / took_s / 1e6:.1f} M rows/s, {read_s / took_s:.1%} of the "
            f"read (≥ {READ_SHARE:.0%}), {numpy_s / took_s:.1f} × NumPy (≥ {TIMES_NUMPY:g})"
        )
    return good


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    good = True
    for name, values in tables():
        print(f"{name}:")
        good &= compare(values)
    values = next(tables())[1]
    sketch = NumberSketch(edges_of(values))
    sketch.update(values)
    row, calls = values[:1], 20_000

    def update_one() -> None:
        for _ in range(calls):
            sketch.update(row)

    row_ns = seconds(update_one) / calls * 1e9
    size = (len(sketch.to_bytes()) - 8 * len(sketch.counts)) / FEATURES
    good &= row_ns <= ROW_NS and size <= FEATURE_BYTES
    print(f"one row: {row_ns:.0f} ns (≤ {ROW_NS:g})")
    print(f"a feature's state: {size:.0f} bytes and 8 a bin (≤ {FEATURE_BYTES})")
    for line in describe():
        print(line)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
