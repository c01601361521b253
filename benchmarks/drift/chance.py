"""Text and category columns: how often chance alone marks a window, and how often a drifted one is found.

    python -m benchmarks.drift.chance [--only TEXT] [--markdown FILE]

Every window is compared by fastserve (profile, sketch, comparison) and by the rules of others on the plain
table of all categories of either side: chi-square with p < 0.05 (SciPy; the default of whylogs and NannyML),
PSI >= 0.1 with Evidently's handling of zeros, Jensen-Shannon >= 0.1 in natural logarithms (its default above
1,000 reference rows). Seeded: the same tables each time; ten minutes on one core.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.drift.contestants import library
from benchmarks.serving.machine import commit, hardware
from benchmarks.serving.report import Grid
from fastserve.monitoring.building import Described, build_profile
from fastserve.monitoring.comparing import SOME, FeatureComparison, compare
from fastserve.monitoring.profile import TensorProfile
from fastserve.types import DataType, TensorSpec

SEED = 20130101
REFERENCES, WINDOWS = 20, 20
"""References made anew, and windows of each."""
REFERENCE_ROWS = (1_000, 10_000, 100_000)
WINDOW_ROWS = (100, 300, 1_000, 10_000)
CLUSTER_ROWS, PHI_ROWS = 10, 100
"""Mean rows of a cluster; rows of a window of phi where a reference is too small for fastserve to choose."""
NEW = -1

Values = NDArray[Any]
Draw = Callable[[np.random.Generator, int], Values]


def zipf(categories: int) -> Draw:
    """Category k comes 1 / k as often as the first, as words do."""
    shares = 1 / np.arange(1, categories + 1)
    upto = np.cumsum(shares / shares.sum())[:-1]
    return lambda rng, rows: np.searchsorted(upto, rng.random(rows))


def clustered(draw: Draw) -> Draw:
    """Runs of one category, of geometrically distributed length."""

    def drawn(rng: np.random.Generator, rows: int) -> Values:
        sizes = rng.geometric(1 / CLUSTER_ROWS, rows)
        return np.repeat(draw(rng, rows), sizes)[:rows]

    return drawn


COLUMNS: dict[str, Draw] = {
    "normal, 16 bins": lambda rng, rows: rng.standard_normal(rows),
    "binary, 1 %": lambda rng, rows: (rng.random(rows) < 0.01).astype(np.int64),
    "Zipf, 20": zipf(20),
    "Zipf, 200": zipf(200),
    "Zipf, 5,000": zipf(5_000),
    "Zipf, 100,000": zipf(100_000),
    "names, each once": lambda rng, rows: rng.integers(0, 2**62, rows),
    "Zipf, 200, clustered": clustered(zipf(200)),
    "Zipf, 5,000, clustered": clustered(zipf(5_000)),
}


def doubled(rows: Values, rng: np.random.Generator) -> Values:
    """The most frequent category has twice its share (of 20 categories 56 %, of 5,000 22 %)."""
    share = float((rows == 0).mean())
    return np.where(rng.random(rows.size) < share / max(1 - share, 0.5), 0, rows)


def new(rows: Values, rng: np.random.Generator) -> Values:
    """One row in twenty is of a category that never was."""
    return np.where(rng.random(rows.size) < 0.05, NEW, rows)


def headed(rows: Values, rng: np.random.Generator) -> Values:
    """Of the rows of the rarer categories, half of all, a fifth is of the most frequent category."""
    rarer = rows > np.median(rows)
    return np.where(rarer & (rng.random(rows.size) < 0.2), 0, rows)


DRIFTS = {"first doubled": doubled, "new, 5 %": new, "tail to head, 20 %": headed}


def profiled(rows: Values, clusters: bool) -> TensorProfile:
    codes = rows.dtype == np.int64
    spec = TensorSpec("x", DataType.INT64 if codes else DataType.FP64, (-1, 1))
    described = Described(spec, "input", ("x",), codes=codes)
    window = PHI_ROWS if clusters and rows.size < 10_000 else None
    return build_profile([described], lambda: iter([[rows[:, None]]]), window_rows=window).tensors[0]


def compared(profile: TensorProfile, rows: Values) -> FeatureComparison:
    sketch = profile.sketch()
    sketch.update(np.ascontiguousarray(rows[:, None]))
    return compare(profile, sketch)[0]


def table(reference: Values, rows: Values, found: FeatureComparison) -> NDArray[np.int64]:
    """Counts of both sides, [2, bins], none empty: all categories of either, or the bins of a number."""
    if found.kind == "number":
        both = np.array([found.reference.counts, found.live.counts])
    else:
        kinds, at = np.unique(np.concatenate([reference, rows]), return_inverse=True)
        sides = at[: reference.size], at[reference.size :]
        both = np.array([np.bincount(side, minlength=kinds.size) for side in sides])
    return both[:, both.sum(axis=0) > 0]


def psi(shares: NDArray[np.float64]) -> float:
    least = shares[shares > 0].min()
    p, q = np.where(shares == 0, 1e-4 if least > 1e-4 else least / 1e6, shares)
    return float(np.sum((p - q) * np.log(p / q)))


def verdicts(reference: Values, rows: Values, found: FeatureComparison) -> list[bool]:
    """Marked by fastserve; beyond chance to it; found by chi-square, PSI, Jensen-Shannon."""
    counts = table(reference, rows, found)
    p, q = shares = counts / counts.sum(axis=1, keepdims=True)
    significant = counts.shape[1] > 1 and library("scipy.stats").chi2_contingency(counts).pvalue < 0.05
    far = library("scipy.spatial.distance").jensenshannon(p, q) >= SOME
    marked = bool({found.grade, found.outside.grade} & {"some", "high"})
    return [marked, marked or not found.may_be_chance, significant, psi(shares) >= SOME, far]


def measured(column: str, rows: int, live_rows: int, drift: Callable[..., Values] | None = None) -> str:
    """Shares of windows, in %, as a cell says them."""
    draw, told = COLUMNS[column], []
    rng = np.random.default_rng([SEED, rows, live_rows])
    for _ in range(REFERENCES):
        reference = draw(rng, rows)
        profile = profiled(reference, "clustered" in column)
        for _ in range(WINDOWS):
            live = draw(rng, live_rows)
            live = live if drift is None else drift(live, rng)
            told.append(verdicts(reference, live, compared(profile, live)))
    shares = [f"{share:.3g}" for share in 100 * np.mean(told, axis=0)]
    return f"{shares[0]} ({shares[1]}) · " + " · ".join(shares[2:])


def clean(columns: list[str], say: Callable[[str], None]) -> Grid:
    """First table: windows of the reference's own distribution."""
    rows = []
    for column in columns:
        for size in REFERENCE_ROWS:
            say(f"clean: {column}, {size:,}")
            rows.append([column, f"{size:,}", *(measured(column, size, live) for live in WINDOW_ROWS)])
    return Grid("Clean windows that are marked, %", ["column", ">reference rows", *titles()], rows)


def drifted(columns: list[str], say: Callable[[str], None]) -> Grid:
    """Second table: windows that differ, of 10,000 reference rows."""
    rows = []
    for column in columns:
        for name, drift in DRIFTS.items():
            say(f"drifted: {column}, {name}")
            rows.append([column, name, *(measured(column, 10_000, live, drift) for live in WINDOW_ROWS)])
    return Grid(
        "Drifted windows that are found, %; 10,000 reference rows", ["column", "drift", *titles()], rows
    )


def titles() -> Iterator[str]:
    return (f">{rows:,} rows" for rows in WINDOW_ROWS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="columns whose names hold this")
    parser.add_argument("--markdown", type=Path, help="write the tables there too")
    options = parser.parse_args()
    console = Console(stderr=True)
    columns = [name for name in COLUMNS if options.only in name]
    grids = [
        clean(columns, console.print),
        drifted([name for name in columns if name.startswith("Zipf")], console.print),
    ]
    tables = "\n".join(grid.markdown() for grid in grids) + f"\n- {hardware()}; commit {commit()}\n"
    print(tables)
    if options.markdown:
        options.markdown.write_text(tables)


if __name__ == "__main__":
    main()
