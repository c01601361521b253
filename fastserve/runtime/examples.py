"""Rows that nobody has sent: what a model is tried with before it serves, alone and in strange company."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from fastserve.errors import InvalidRequest, ModelFailed
from fastserve.types import Array, DataType, Signature, TensorSpec

_TRIED = ((1, 1), (8, 8), (32, 32), (8, 224), (256, 256), (1024, 1024))
"""What dimensions that vary are taken as, one pair after the other: the second in images."""
SIZES = sorted({size for pair in _TRIED for size in pair})
_IMAGE_RANK = 4
_COLOURS = 3

PROBE_ROWS = 3
FAR = 1000.0
"""How much larger than the others a far-off row is."""

_MAX_ELEMENTS = 2**20


def blank_rows(signature: Signature) -> Iterator[list[Array]]:
    """Make rows of zeros and empty strings; where dimensions vary one of each of `SIZES`, if not huge.

    An output without dimensions may be a scalar, and what looks like a batch one more dimension that varies:
    it is tried as such at last.
    """
    open_images = any(_is_open_image(spec) for spec in signature.inputs)
    for (length, side), axis in product(_TRIED, (0, 1, -1) if open_images else (0,)):
        shapes = [_filled(spec, length, side, axis, signature.batched) for spec in signature.inputs]
        if side > 1 and sum(map(math.prod, shapes)) > _MAX_ELEMENTS:
            continue
        yield [
            np.full(shape, "" if spec.datatype is DataType.BYTES else 0, spec.datatype.dtype)
            for spec, shape in zip(signature.inputs, shapes, strict=True)
        ]
        if all(dim >= 0 for spec in signature.inputs for dim in spec.shape[signature.batched :]):
            break
    if signature.batched and not all(spec.shape for spec in signature.outputs):
        yield from blank_rows(replace(signature, batched=False))


def _is_open_image(spec: TensorSpec) -> bool:
    """Tell whether its channels vary too, as exporters say that leave every dimension open."""
    return len(spec.shape) == _IMAGE_RANK and all(dim < 0 for dim in spec.shape[1:])


def _filled(spec: TensorSpec, length: int, side: int, axis: int, batched: bool) -> list[int]:
    """Give a shape without variable dimensions; `axis`: where an open image has its colours, 0: nowhere."""
    image = len(spec.shape) == _IMAGE_RANK
    shape = [(side if image else length) if dim < 0 else dim for dim in spec.shape]
    if batched or (image and spec.shape[0] < 0):
        shape[0] = 1
    if axis and _is_open_image(spec):
        shape[axis] = _COLOURS
    return shape


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
    """Make [PROBE_ROWS, *row_shape] of an array [rows, *row_shape]: small values, no row like the last."""
    row = np.arange(PROBE_ROWS).reshape((-1,) + (1,) * (array.ndim - 1))
    column = np.arange(math.prod(array.shape[1:])).reshape(array.shape[1:])
    if array.dtype == object:
        values: Array = np.array(["a", "b", "c"], dtype=object)[(column + row) % 3]
    elif np.issubdtype(array.dtype, np.floating):
        values = ((column * 7 + row * row * 3) % 11 / 5.0 - 1.0).astype(array.dtype)
    else:
        values = ((column + row) % 2).astype(array.dtype)
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
