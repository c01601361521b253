"""The category sketch in plain Python: a Counter a feature, nothing packed, nothing shared."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TwinCategorySketch:
    def __init__(self, categories: Sequence[Sequence[Any]]) -> None:
        self.categories = [list(feature) for feature in categories]
        self.rows = 0
        self.missing = [0] * len(categories)
        self.unseen = [0] * len(categories)
        self.counters: list[Counter[Any]] = [Counter() for _ in categories]

    def update(self, values: NDArray[Any]) -> None:
        for row in values.reshape(len(values), len(self.categories)):
            self.rows += 1
            for f, value in enumerate(row):
                self.count(f, value)

    def count(self, f: int, value: Any) -> None:
        if value is None or (isinstance(value, np.floating) and math.isnan(value)):
            self.missing[f] += 1
            return
        if type(value) in (str, bytes) and not value and "" not in self.categories[f]:
            self.missing[f] += 1
            return
        known = self.known(value)
        if known is not None and known in self.categories[f]:
            self.counters[f][known] += 1
        else:
            self.unseen[f] += 1

    @staticmethod
    def known(value: Any) -> str | int | None:
        """The value as a category would be written; None for what can be none."""
        if type(value) is str:
            return value
        if type(value) is bytes:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
        if isinstance(value, np.floating):
            return int(value) if np.isfinite(value) and value == np.trunc(value) else None
        return int(value) if isinstance(value, np.integer | np.bool_) else None

    @property
    def counts(self) -> list[int]:
        return [self.counters[f][each] for f, feature in enumerate(self.categories) for each in feature]


def figures(sketch: Any) -> tuple[int, list[int], list[int], list[int]]:
    """What either sketch has counted: rows, missing, unseen, counts."""
    return sketch.rows, list(sketch.missing), list(sketch.unseen), list(sketch.counts)
