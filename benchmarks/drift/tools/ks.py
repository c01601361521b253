"""SciPy: the Kolmogorov-Smirnov test of two samples, feature by feature."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.drift.contestants import (
    FEATURES,
    Contestant,
    Flags,
    Matrix,
    Reading,
    Sample,
    Tool,
    library,
    reference,
)

ALPHA = 0.05


def test(before: Any, live: Any) -> Any:
    return library("scipy.stats").ks_2samp(before, live, method="asymp")


def feed(rows: Matrix) -> Callable[[Any], Any]:
    before = reference()
    return lambda block: [test(before[:, f], block[:, f]) for f in range(FEATURES)]


def read(before: Sample, live: Sample) -> list[Reading]:
    found = test(before, live)
    return [Reading("KS", float(found.statistic), bool(found.pvalue < ALPHA))]


def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
    for rows in windows:
        yield np.array([test(before[:, f], rows[:, f]).pvalue < ALPHA for f in range(FEATURES)])


SCIPY = Contestant("SciPy ks_2samp", "KS against 10,000 rows", "KS p < 0.05", feed, read, alarms)
TOOL = Tool("SciPy", "scipy", __name__, (SCIPY,))
