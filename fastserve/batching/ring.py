"""The batch buffer of one model at one row shape: preallocated rows that codecs write and the model reads."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fastserve.batching.options import BatchingOptions
from fastserve.batching.target import RowShape, Target
from fastserve.types import Array, DataType, TensorSpec
from fastserve_core.wire.decode import RowBuffers

Part = tuple[int, int, int, int]
"""(token, first row within the request, rows, first ring row or -1)."""

_TRIM_BYTES = 8 * 2**20
_OBJECT_BYTES = 8 * 2**20
"""Of references to strings in one ring: unlike numbers they are written at once when it is made."""


def least_rows(specs: Sequence[TensorSpec]) -> list[RowShape]:
    """Give rows of batched tensors as small as they come: dimensions that vary are 1."""
    return [(spec.datatype, tuple(map(abs, spec.shape[1:]))) for spec in specs]


def row_bytes(rows: Sequence[RowShape]) -> int:
    """Bytes of one row of all tensors."""
    return sum(math.prod(shape) * datatype.dtype.itemsize for datatype, shape in rows)


def rows_within(size_bytes: int, rows: Sequence[RowShape]) -> int:
    """Give how many rows of all tensors so many bytes hold."""
    return size_bytes // max(row_bytes(rows), 1)


def most_rows(wished: int, rows: Sequence[RowShape], options: BatchingOptions) -> int:
    """Give the rows of a batch: `wished`, or as many as the batch buffer may hold, but one at least."""
    return max(1, min(wished, rows_within(options.max_queue_bytes, rows)))


def rows_to_hold(target: Target, options: BatchingOptions) -> int:
    """Give the rows of a ring: as many as may wait, fit and be answered, but a batch at least."""
    most = min(options.max_queue_rows, rows_within(options.max_queue_bytes, target.rows))
    most = min(most, options.max_answer_bytes // max(target.answer_row_bytes, 1))
    if any(datatype is DataType.BYTES for datatype, _ in target.rows):
        most = min(most, rows_within(_OBJECT_BYTES, target.rows))
    return max(target.max_batch_rows, most)


class Ring:
    """One array [ring_rows, *row_shape] per input, and a staging copy for batches that are not consecutive.

    Parameters
    ----------
    rows
        (datatype, row shape) of every input, in signature order.
    ring_rows, max_batch_rows
        Capacity of the ring and of the staging copy.
    """

    def __init__(self, rows: Sequence[RowShape], ring_rows: int, max_batch_rows: int) -> None:
        self._rows = list(rows)
        self.ring_rows = ring_rows
        self.max_batch_rows = max_batch_rows
        self._staging: list[Array] | None = None
        self.arrays = self._allocate(ring_rows)
        self.buffers = RowBuffers(self.arrays)

    def _allocate(self, rows: int) -> list[Array]:
        # Untouched pages cost no memory: the ring's size is address space until traffic fills it.
        return [np.empty((rows, *shape), datatype.dtype) for datatype, shape in self._rows]

    def consecutive(self, start: int, rows: int) -> list[Array]:
        """Views of ring rows [start, start + rows), one per input; no copy."""
        return [array[start : start + rows] for array in self.arrays]

    def write(self, start: int, arrays: Sequence[Array]) -> None:
        """Copy a request's arrays to ring rows from `start` on."""
        for ring, array in zip(self.arrays, arrays, strict=True):
            ring[start : start + len(array)] = array

    def gather(self, parts: Sequence[Part], held: Mapping[int, list[Array]], rows: int) -> list[Array]:
        """Views of `rows` staged rows: a batch's parts in their order, from the ring or `held` arrays."""
        if self._staging is None:
            self._staging = self._allocate(self.max_batch_rows)
        for index, staging in enumerate(self._staging):
            at = 0
            for token, offset, count, place in parts:
                source, first = (self.arrays[index], place) if place >= 0 else (held[token][index], offset)
                staging[at : at + count] = source[first : first + count]
                at += count
        return [staging[:rows] for staging in self._staging]

    def trim(self, high_row: int) -> bool:
        """Give memory back after a burst that reached ring row `high_row`; true if the arrays were replaced.

        Only while no row waits or runs. Strings are let go in any case.
        """
        if high_row * row_bytes(self._rows) <= _TRIM_BYTES:
            self._staging = None if any(array.dtype == object for array in self.arrays) else self._staging
            for array in self.arrays:
                if array.dtype == object:
                    array[:high_row] = None
            return False
        self._staging = None
        self.arrays = self._allocate(self.ring_rows)
        self.buffers = RowBuffers(self.arrays)
        return True
