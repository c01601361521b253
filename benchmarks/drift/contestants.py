"""What every contestant gives and gets: the same rows, seeds and samples. Needs NumPy only.

The tools live in `benchmarks.drift.tools`, each in an environment of its own; a library is imported where it
is used, so that the list of tools can be read where none is installed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURES, BINS = 32, 16
ROWS = 100_000
REFERENCE_ROWS = 10_000
SEED = 20130101
OUTLIER = 1e6
WINDOWS = 200
WINDOW_ROWS = (100, 1_000)
PSI_ALARM = 0.1

Matrix = NDArray[np.float32]
Sample = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reading:
    """A tool's measure of one feature's live rows; `alarm` is its own verdict, None where it has none."""

    measure: str
    value: float
    alarm: bool | None


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way of using a tool; all three calls may import what the tool's environment holds."""

    name: str
    does: str
    rule: str
    """When it alarms, by default."""
    feed: Callable[[Matrix], Callable[[Any], Any]]
    """Prepares, outside the clock; what it gives takes all of these rows, or one at a time (`singly`)."""
    read: Callable[[Sample, Sample], list[Reading]] | None = None
    """One feature's reference and live rows, in their order."""
    alarms: Callable[[Matrix, list[Matrix]], Iterator[Flags]] | None = None
    """Reference and windows to the features that alarm in each window, bool [FEATURES]."""
    singly: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A distribution on PyPI; without `requirements` it is measured in the benchmark's own environment."""

    name: str
    distribution: str
    module: str
    """Where it is described, for the process inside its environment."""
    contestants: tuple[Contestant, ...]
    requirements: tuple[str, ...] = ()


def normal(rows: int, seed: int = SEED) -> Matrix:
    return np.random.default_rng(seed).standard_normal((rows, FEATURES), np.float32)


def reference() -> Matrix:
    return normal(REFERENCE_ROWS, SEED + 1)


def windows(rows: int) -> list[Matrix]:
    """Give clean windows of so many rows, of the reference's own distribution."""
    return np.split(normal(WINDOWS * rows, SEED + rows), WINDOWS)


def samples() -> tuple[Sample, dict[str, Sample]]:
    """Give a reference and what is set beside it; the outlier comes first, as matters to streams."""
    generator = np.random.default_rng(SEED)
    before, shifted, clean = (
        generator.normal(mean, 1.0, REFERENCE_ROWS).astype(np.float32).astype(np.float64)
        for mean in (0.0, 1.0, 0.0)
    )
    live = {
        "clean": clean,
        "outlier": np.insert(clean, 0, OUTLIER),
        "shift": shifted,
        "both": np.insert(shifted, 0, OUTLIER),
    }
    return before, live


def named(values: Matrix) -> Any:
    """Make the pandas frame that the drift libraries take."""
    return library("pandas").DataFrame(values, columns=[f"f{j}" for j in range(FEATURES)])


def single(values: Sample) -> Any:
    """Make a pandas frame of one column, x."""
    return library("pandas").DataFrame({"x": values})


def library(name: str) -> Any:
    """Import a module without type information, if it has any at all here."""
    return import_module(name)
