"""A reference for a version that came without one: the first rows that it serves."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fastserve.monitoring.building import Described, build_profile
from fastserve.monitoring.columns import value_names
from fastserve.monitoring.profile import Profile
from fastserve.monitoring.sampling import MAX_TEXT
from fastserve.types import Array, DataType, Signature

_MAX_BYTES = 256 * 2**20


class Pinner:
    """Keeps the first rows of one version in one worker, and makes a profile of them.

    Parameters
    ----------
    signature
        Of the model; tensors without a fixed number of values a row, or with more than `max_features`, are
        left out.
    rows
        How many rows to keep; fewer where they would take more than 256 MiB.
    full
        Called once, from whichever thread brings the last row.

    Raises
    ------
    ValueError
        There is no tensor to describe.
    """

    def __init__(
        self, signature: Signature, rows: int, max_features: int, full: Callable[["Pinner"], object]
    ) -> None:
        self._inputs = _described(signature, "input", max_features)
        self._outputs = _described(signature, "output", max_features)
        tensors = [one for _, one in (*self._inputs, *self._outputs)]
        if not signature.batched or not tensors:
            raise ValueError("no tensor has a fixed number of values a row")
        row_bytes = sum(len(one.columns) * _value_bytes(one.spec.datatype) for one in tensors)
        self.wanted = max(1, min(rows, _MAX_BYTES // row_bytes))
        self.rows = 0
        self._tensors = tensors
        self._kept: list[np.ndarray[Any, Any]] = [
            np.empty((self.wanted, len(one.columns)), one.spec.datatype.dtype) for one in tensors
        ]
        self._full = full
        self._lock = threading.Lock()

    def update(self, inputs: Sequence[Array], outputs: Sequence[Array], rows: int) -> None:
        """Keep rows of a batch that ran. Safe from any thread: rows of two shapes may run at once."""
        values = [inputs[place] for place, _ in self._inputs] + [outputs[place] for place, _ in self._outputs]
        with self._lock:
            taken = min(rows, self.wanted - self.rows)
            if taken <= 0:
                return
            try:
                for kept, array in zip(self._kept, values, strict=True):
                    kept[self.rows : self.rows + taken] = _bounded(array[:taken].reshape(taken, -1))
            except (ValueError, IndexError):
                return  # a batch whose outputs are not what the model says
            self.rows += taken
            full = self.rows == self.wanted
        if full:
            self._full(self)

    def profile(self) -> Profile:
        """Make the profile of the rows kept; takes a while, in any thread, once they are all there.

        Raises
        ------
        InvalidProfile
        """
        return build_profile(
            self._tensors,
            lambda: [self._kept],
            source="live",
            description=f"the first {self.rows} rows that were served",
        )


def _value_bytes(datatype: DataType) -> int:
    return MAX_TEXT if datatype is DataType.BYTES else max(datatype.itemsize, 8)


def _bounded(values: Array) -> Array:
    """Cut text [rows, features] that is too long for a category, to what is too long still."""
    if values.dtype != object:
        return values
    cut = np.empty_like(values)
    cut.flat[:] = [value[: MAX_TEXT + 1] for value in values.flat]
    return cut


def _described(
    signature: Signature, role: Literal["input", "output"], max_features: int
) -> list[tuple[int, Described]]:
    specs = signature.inputs if role == "input" else signature.outputs
    return [
        (place, Described(spec, role, value_names(spec)))
        for place, spec in enumerate(specs)
        if all(size > 0 for size in spec.shape[1:]) and math.prod(spec.shape[1:]) <= max_features
    ]
