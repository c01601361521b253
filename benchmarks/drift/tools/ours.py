"""fastserve: a profile of the reference, its sketch for the live rows, and their comparison."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift.contestants import (
    PSI_ALARM,
    Contestant,
    Flags,
    Matrix,
    Reading,
    Sample,
    Tool,
    reference,
)
from fastserve.monitoring.building import Described, build_profile
from fastserve.monitoring.comparing import compare
from fastserve.monitoring.profile import TensorProfile
from fastserve.types import DataType, TensorSpec


def profile(rows: NDArray[Any]) -> TensorProfile:
    width = rows.shape[1]
    spec = TensorSpec("x", DataType.FP32 if rows.dtype == np.float32 else DataType.FP64, (-1, width))
    described = Described(spec, "input", tuple(f"f{j}" for j in range(width)))
    return build_profile([described], lambda: iter([[rows]]), window_rows=0).tensors[0]


def feed(rows: Matrix) -> Callable[[Any], Any]:
    return profile(reference()).sketch().update


def measured(of: TensorProfile, rows: NDArray[Any], name: str) -> NDArray[np.float64]:
    sketch = of.sketch()
    sketch.update(rows)
    return np.array([one.distances[name] for one in compare(of, sketch)], np.float64)


def read(before: Sample, live: Sample) -> list[Reading]:
    of, rows = profile(before[:, None]), live[:, None]
    psi, js = (float(measured(of, rows, name)[0]) for name in ("psi", "jensen_shannon"))
    return [Reading("PSI less bias", psi, psi > PSI_ALARM), Reading("Jensen-Shannon", js, None)]


def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
    of = profile(before)
    return (measured(of, rows, "psi") > PSI_ALARM for rows in windows)


RULE = "PSI less bias > 0.1 (effect size alone)"
OURS = Contestant("fastserve", "counts of 16 bins, moments, range", RULE, feed, read, alarms)
TOOL = Tool("fastserve", "fastserve", __name__, (OURS,))
