"""One tensor at a time: JSON values or raw bytes to a validated NumPy array, without the compiled decoder."""

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.errors import as_json
from fastserve.types import Array, DataType

_LENGTH = struct.Struct("<I")
"""What stands before a BYTES element."""
_MAX_RANK = 32
_MOST_ITEM_BYTES = 8
_MOST_EMPTY = 65_536


def from_json(data: object, datatype: DataType, shape: tuple[int, ...], field: str) -> Array:
    """Make a tensor from JSON `data`, flat in row-major order or nested exactly like `shape`.

    A number means the nearest double, cast to the type; null is NaN in floating types and an error elsewhere.
    `field` is what an error names, such as `inputs[0].data`.

    Returns
    -------
    ndarray
        C-contiguous, of shape `shape` and `datatype`'s dtype; object dtype holding `str` for BYTES.
    """
    flat = flatten(data, shape, field)
    if datatype.is_float:
        array = _floats(flat, datatype, field)
    elif datatype is DataType.BYTES:
        array = _strings(flat, field)
    elif datatype is DataType.BOOL:
        array = _bools(flat, field)
    else:
        array = _integers(flat, datatype, field)
    return array.reshape(shape)


def flatten(data: object, shape: tuple[int, ...], field: str) -> list[Any]:
    """Bring flat or nested data into row-major order; InvalidRequest where a count is not the shape's."""
    if not isinstance(data, list):
        if shape == () and not isinstance(data, dict):
            return [data]
        raise InvalidRequest(f"{field} must be a list", field)
    nested = len(shape) > 1 and bool(data) and isinstance(data[0], list)
    if not nested:
        size = math.prod(shape)
        if len(data) != size:
            raise InvalidRequest(f"{field} has {len(data)} values, shape {list(shape)} needs {size}", field)
        return data
    level: list[Any] = data
    if len(level) != shape[0]:
        raise InvalidRequest(f"{field} has {len(level)} rows, shape {list(shape)} needs {shape[0]}", field)
    for axis, dim in enumerate(shape[1:], 1):
        if set(map(type, level)) - {list} or set(map(len, level)) - {dim}:
            raise InvalidRequest(
                f"{field} is not nested like shape {list(shape)}: see dimension {axis}", field
            )
        level = list(chain.from_iterable(level))
    return level


def _floats(flat: list[Any], datatype: DataType, field: str) -> Array:
    _check_types(flat, {int, float, type(None)}, datatype, field)
    doubles = np.array(flat, dtype=np.float64)
    if datatype is DataType.FP64:
        return doubles
    with np.errstate(over="ignore"):
        array = doubles.astype(datatype.dtype)
    infinite = np.isinf(array)
    if infinite.any():
        raise _out_of_range(flat, int(infinite.argmax()), datatype, field)
    return array


def _integers(flat: list[Any], datatype: DataType, field: str) -> Array:
    _check_types(flat, {int, float}, datatype, field)
    if float in set(map(type, flat)):
        flat = [_integral(flat, i, datatype, field) for i in range(len(flat))]
    try:
        return np.array(flat, dtype=datatype.dtype)
    except OverflowError:
        limits = np.iinfo(datatype.dtype)
        at = next(i for i, value in enumerate(flat) if not limits.min <= value <= limits.max)
        raise _out_of_range(flat, at, datatype, field) from None


def _integral(flat: list[Any], at: int, datatype: DataType, field: str) -> int:
    """Accept 1.0 and 1e3 as the integers they are: the nearest double, which must be whole."""
    value = flat[at]
    if isinstance(value, float):
        # An integer literal beyond 64 bits arrives as a double too, rounded: -2**63 - 1 would look fine.
        if not -(2.0**63) < value < 2.0**64:
            raise _out_of_range(flat, at, datatype, field)
        if not value.is_integer():
            raise InvalidRequest(f"{field}: value {at} is {value!r}, {datatype} needs whole numbers", field)
    return int(value)


def _bools(flat: list[Any], field: str) -> Array:
    _check_types(flat, {bool, int}, DataType.BOOL, field)
    if not all(value in (0, 1) for value in flat):
        raise InvalidRequest(f"{field} has a number other than 0 and 1, BOOL needs true or false", field)
    return np.array(flat, dtype=np.bool_)


def _strings(flat: list[Any], field: str) -> Array:
    _check_types(flat, {str}, DataType.BYTES, field)
    return objects(flat)


def objects(values: Sequence[str]) -> Array:
    """Make a 1-D object array of strings."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


_JSON_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _check_types(flat: list[Any], allowed: set[type], datatype: DataType, field: str) -> None:
    wrong = set(map(type, flat)) - allowed
    if wrong:
        at, value = next((i, v) for i, v in enumerate(flat) if type(v) in wrong)
        kind = _JSON_NAMES[type(value)]
        raise InvalidRequest(
            f"{field}: value {at} is {kind}, which is not a value of datatype {datatype}", field
        )


def _out_of_range(flat: list[Any], at: int, datatype: DataType, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field}: value {at} is {flat[at]!r}, which is out of the range of {datatype}", field
    )


def from_binary(raw: memoryview, datatype: DataType, shape: tuple[int, ...], field: str) -> Array:
    """Make a tensor from bytes as Triton's binary extension lays them out.

    Little-endian, row-major; BYTES is <u32 length><UTF-8 bytes> per element; floats keep their bits.
    InvalidRequest when the bytes are not the shape's, or not of the datatype.
    """
    size = math.prod(shape)
    if datatype is DataType.BYTES:
        return objects(_binary_strings(raw, size, field)).reshape(shape)
    needed = size * datatype.itemsize
    if len(raw) != needed:
        raise InvalidRequest(
            f"{field} is {len(raw)} bytes, shape {list(shape)} of {datatype} needs {needed}", field
        )
    if datatype is DataType.BOOL and size and np.frombuffer(raw, np.uint8).max() > 1:
        raise InvalidRequest(f"{field}: a byte of the data is neither 0 nor 1, BOOL needs one of them", field)
    array = np.frombuffer(raw, datatype.dtype.newbyteorder("<")).astype(datatype.dtype)
    return array.reshape(shape)


def _binary_strings(raw: memoryview, size: int, field: str) -> list[str]:
    values: list[str] = []
    at, end = 0, len(raw)
    try:
        for i in range(size):
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(raw, at)[0] if start <= end else start
            if at > end:
                raise InvalidRequest(f"{field}: BYTES element {i} reaches past the end of its data", field)
            values.append(str(raw[start:at], "utf-8"))
    except UnicodeDecodeError:
        raise InvalidRequest(f"{field}: BYTES element {len(values)} is not valid UTF-8", field) from None
    if at != len(raw):
        raise InvalidRequest(
            f"{field}: {len(raw) - at} bytes are left over after {size} BYTES elements", field
        )
    return values


def checked_shape(value: object, field: str) -> tuple[int, ...]:
    """Read a JSON shape: non-negative integers that make a number of bytes of 63 bits, else InvalidRequest.

    Where one is 0 no data bounds the others: rows without values would cost their runs all the same.
    """
    if not isinstance(value, list):
        raise InvalidRequest(f"{field} must be a list of integers", field)
    if len(value) > _MAX_RANK:
        raise InvalidRequest(f"{field} has {len(value)} dimensions, the limit is {_MAX_RANK}", field)
    for dim in value:
        if type(dim) is not int:
            raise InvalidRequest(f"{field}: {as_json(dim)} is not an integer", field)
        if dim < 0:
            raise InvalidRequest(f"{field}: dimension {dim} is negative", field)
    product = math.prod(dim for dim in value if dim)
    if product * _MOST_ITEM_BYTES >= 2**63:
        raise InvalidRequest(f"{field}: the product of the dimensions is too large", field)
    if 0 in value and product > _MOST_EMPTY:
        raise InvalidRequest(
            f"{field}: {value} has no values; its other dimensions may make {_MOST_EMPTY} at most", field
        )
    return tuple(value)
