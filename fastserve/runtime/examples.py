"""Rows that nobody has sent: what a model is tried with before it serves, alone and in strange company."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fastserve.errors import InvalidRequest, ModelFailed
from fastserve.types import Array, DataType, Signature

SIZES = (1, 8, 32, 256)
"""What dimensions that vary are taken as, one after the other: images of 1 x 1 are few models' business."""

PROBE_ROWS = 3
FAR = 1000.0
"""How much larger than the others a far-off row is."""

_MAX_ELEMENTS = 2**20


def blank_rows(signature: Signature) -> Iterator[list[Array]]:
    """Make rows of zeros and empty strings; where dimensions vary one of each of `SIZES`, if not huge."""
    for size in SIZES:
        shapes = [[1, *spec.shape[1:]] if signature.batched else spec.shape for spec in signature.inputs]
        shapes = [[size if dim < 0 else dim for dim in shape] for shape in shapes]
        if size > 1 and sum(map(math.prod, shapes)) > _MAX_ELEMENTS:
            return
        yield [
            np.full(shape, "" if spec.datatype is DataType.BYTES else 0, spec.datatype.dtype)
            for spec, shape in zip(signature.inputs, shapes, strict=True)
        ]
        if all(dim >= 0 for spec in signature.inputs for dim in spec.shape[signature.batched :]):
            return


def first_that_runs(
    signature: Signature, run: Callable[[list[Array]], list[Array]]
) -> tuple[list[Array], list[Array]]:
    """Give the first blank row that a model runs, and its outputs.

    Raises
    ------
    ModelFailed
        It runs none; why it does not run the first.
    """
    first: ModelFailed | InvalidRequest | None = None
    for row in blank_rows(signature):
        try:
            return row, run(row)
        except (ModelFailed, InvalidRequest) as error:
            first = first or error
    assert first is not None
    raise first


def varied(array: Array) -> Array:
    """Make [PROBE_ROWS, *row_shape] of an array [rows, *row_shape]: small numbers, short strings."""
    shape = (PROBE_ROWS, *array.shape[1:])
    cells = np.arange(int(np.prod(shape))).reshape(shape)
    row = np.arange(PROBE_ROWS).reshape((-1,) + (1,) * (array.ndim - 1))
    if array.dtype == object:
        values: Array = np.array(["a", "b", "c"], dtype=object)[(cells + row) % 3]
    elif np.issubdtype(array.dtype, np.floating):
        values = ((cells * 7 + row * row * 3) % 11 / 5.0 - 1.0).astype(array.dtype)
    else:
        values = ((cells + row) % 2).astype(array.dtype)
    return values


def strange_company(batch: Sequence[Array]) -> Iterator[list[Array]]:
    """Give the batch with its last row replaced by its first; then by a far-off one, per kind of values."""
    yield [np.concatenate([array[:-1], array[:1]]) for array in batch]
    for kind in "fOiub":
        if any(array.dtype.kind == kind for array in batch):
            yield [_far_off(array) if array.dtype.kind == kind else array for array in batch]


def _far_off(array: Array) -> Array:
    out = array.copy()
    if array.dtype == object:
        out[-1] = "some words, 12 of them; and-others"
    elif array.dtype.kind == "f":
        out[-1] = (array[-1] + 2) * array.dtype.type(FAR)
    elif array.dtype.kind == "b":
        out[-1] = ~array[-1]
    else:
        out[-1] = 7
    return out
