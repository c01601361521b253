"""What NumberSketch does, one feature at a time in plain NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class Feature:
    """Counts and moments of one feature."""

    missing: int
    negative: int
    positive: int
    mean: float
    m2: float
    minimum: float
    maximum: float
    counts: list[int]


def place(value: Any, edges: npt.NDArray[np.float64]) -> int:
    """How many edges lie below the value, compared as exact numbers."""
    number = int(value) if isinstance(value, np.integer | np.bool_) else float(value)
    return sum(number > float(edge) for edge in edges)


def sketch(values: npt.NDArray[Any], edges: Sequence[npt.NDArray[np.float64]]) -> list[Feature]:
    """Everything that NumberSketch should say of `values` [rows, features]."""
    found = []
    for f, mine in enumerate(edges):
        column = values[:, f]
        real = column.astype(np.float64)
        present = column[~np.isnan(real)]
        finite = real[np.isfinite(real)]
        counts = [0] * (len(mine) + 1)
        for value in present:
            counts[place(value, mine)] += 1
        mean = float(np.mean(finite)) if finite.size else np.nan
        found.append(
            Feature(
                missing=int(np.isnan(real).sum()),
                negative=int((real == -np.inf).sum()),
                positive=int((real == np.inf).sum()),
                mean=mean,
                m2=float(((finite - mean) ** 2).sum()) if finite.size else 0.0,
                minimum=float(finite.min()) if finite.size else np.nan,
                maximum=float(finite.max()) if finite.size else np.nan,
                counts=counts,
            )
        )
    return found
