"""Who is measured: each takes rows of 32 float32 features the way its own documentation has it.

A contestant prepares itself, outside the clock, and gives back what is timed: a call that takes all of its
rows, or for what works row by row a call that takes one. Row counts are chosen so that each takes seconds.
Libraries are imported where they are used: most are not there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURES, BINS = 32, 10
REFERENCE_ROWS = 10_000
SEED = 20130101

Call = Callable[[], Any]
Prepare = Callable[[NDArray[np.float32]], Call]
PrepareRow = Callable[[], Callable[[list[float]], Any]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """`package` is imported, `distribution` is pip's name; `row` replaces `block` where rows come singly."""

    name: str
    package: str
    distribution: str
    does: str
    rows: int
    block: Prepare | None = None
    row: PrepareRow | None = None


def normal(rows: int, seed: int = SEED) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, FEATURES), np.float32)


def reference() -> NDArray[np.float32]:
    return normal(REFERENCE_ROWS, SEED + 1)


def deciles() -> list[NDArray[np.float64]]:
    """Inner bin edges of every feature."""
    inner = np.arange(1, BINS) / BINS
    return [np.quantile(column, inner).astype(np.float64) for column in reference().T]


def named(values: NDArray[np.float32]) -> Any:
    """A pandas frame, which is what the drift libraries take."""
    return library("pandas").DataFrame(values, columns=[f"f{j}" for j in range(FEATURES)])


def library(name: str) -> Any:
    """A module without type information, if it has any at all here."""
    return import_module(name)


# -- blocks of rows -----------------------------------------------------------------------------------------


def number_sketch(values: NDArray[np.float32]) -> Call:
    sketch = library("fastserve_core.sketch").NumberSketch(deciles())
    return lambda: sketch.update(values)


def searchsorted_bincount(values: NDArray[np.float32]) -> Call:
    edges = [each.astype(np.float32) for each in deciles()]

    def run() -> None:
        for f in range(FEATURES):
            np.bincount(np.searchsorted(edges[f], values[:, f]), minlength=BINS)

    return run


def histogram(values: NDArray[np.float32]) -> Call:
    edges = [np.concatenate([[-np.inf], each, [np.inf]]) for each in deciles()]

    def run() -> None:
        for f in range(FEATURES):
            np.histogram(values[:, f], edges[f])

    return run


def ks_2samp(values: NDArray[np.float32]) -> Call:
    test, before = library("scipy.stats").ks_2samp, reference()

    def run() -> None:
        for f in range(FEATURES):
            test(before[:, f], values[:, f], method="asymp")

    return run


def whylogs_log(values: NDArray[np.float32]) -> Call:
    log, frame = library("whylogs").log, named(values)
    return lambda: log(frame).profile()


def evidently_preset(values: NDArray[np.float32]) -> Call:
    report, preset = library("evidently").Report, library("evidently.presets").DataDriftPreset
    before, after = named(reference()), named(values)
    return lambda: report([preset()]).run(after, before).dict()


def nannyml_univariate(values: NDArray[np.float32]) -> Call:
    after = named(values)
    calculator = (
        library("nannyml")
        .UnivariateDriftCalculator(
            column_names=list(after.columns),
            continuous_methods=["jensen_shannon", "kolmogorov_smirnov"],
            chunk_size=len(after) // 10,
        )
        .fit(named(reference()))
    )
    return lambda: calculator.calculate(after)


# -- row by row ---------------------------------------------------------------------------------------------


def river_detectors(make: Callable[[Any], Any]) -> Callable[[list[float]], None]:
    updates = [make(library("river.drift")).update for _ in range(FEATURES)]

    def take(row: list[float]) -> None:
        for update, value in zip(updates, row, strict=True):
            update(value)

    return take


CONTESTANTS = [
    Contestant(
        "fastserve NumberSketch", "fastserve_core", "fastserve", "counts and moments", 100_000, number_sketch
    ),
    Contestant("NumPy searchsorted + bincount", "numpy", "numpy", "counts", 100_000, searchsorted_bincount),
    Contestant("NumPy histogram", "numpy", "numpy", "counts", 100_000, histogram),
    Contestant("SciPy ks_2samp", "scipy", "scipy", "KS, 10,000 reference rows", 100_000, ks_2samp),
    Contestant(
        "river ADWIN",
        "river",
        "river",
        "test at every row",
        50_000,
        row=lambda: river_detectors(lambda drift: drift.ADWIN()),
    ),
    Contestant(
        "river PageHinkley",
        "river",
        "river",
        "test at every row",
        50_000,
        row=lambda: river_detectors(lambda drift: drift.PageHinkley()),
    ),
    Contestant(
        "river KSWIN",
        "river",
        "river",
        "test at every row",
        200,
        row=lambda: river_detectors(lambda drift: drift.KSWIN(seed=SEED)),
    ),
    Contestant("whylogs log", "whylogs", "whylogs", "sketches of a pandas frame", 20_000, whylogs_log),
    Contestant(
        "Evidently DataDriftPreset",
        "evidently",
        "evidently",
        "drift report, 10,000 reference rows",
        10_000,
        evidently_preset,
    ),
    Contestant(
        "NannyML univariate", "nannyml", "nannyml", "JS and KS of ten chunks", 100_000, nannyml_univariate
    ),
]
