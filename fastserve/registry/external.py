"""Which other files an ONNX file reads its weights from, found without loading the model.

A walk over the protobuf wire format that opens only what can hold a tensor: graphs, nodes, attributes,
functions. The `onnx` package could tell too, but is no dependency, and reads every weight to do so.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from fastserve.errors import ModelRejected

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _SPARSE, _TENSOR, _ENTRY = range(9)

_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
"""Field numbers of onnx.proto by message, as far as tensors can be below them."""


def external_locations(path: Path) -> set[str]:
    """Collect the `location` of every tensor outside the file; ModelRejected when it is no protobuf."""
    if path.stat().st_size == 0:
        raise ModelRejected(f"{path.name} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # However it is encoded, the key stands there as these bytes: most models end here.
        if data.find(b"location") < 0:
            return set()
        try:
            return _walk(data)
        except (IndexError, UnicodeDecodeError) as error:
            raise ModelRejected(f"{path.name} is not an ONNX file: {error}") from error


def _walk(data: mmap.mmap) -> set[str]:
    found: set[str] = set()
    pending = [(_MODEL, 0, len(data))]
    while pending:
        message, start, stop = pending.pop()
        children = _CHILDREN[message]
        for number, first, last in _fields(data, start, stop):
            child = children.get(number)
            if child == _ENTRY:
                found |= _location(data, first, last)
            elif child is not None:
                pending.append((child, first, last))
    return found


def _location(data: mmap.mmap, start: int, stop: int) -> set[str]:
    """Read a StringStringEntryProto; its value when its key is `location`."""
    pair = {number: data[first:last] for number, first, last in _fields(data, start, stop)}
    return {pair.get(2, b"").decode()} if pair.get(1) == b"location" else set()


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Give (field number, first byte, byte after the last) of every length-delimited field of one message."""
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _varint(data, at, stop)
            if size > stop - at:
                raise IndexError("a field is longer than what holds it")
            yield tag >> 3, at, at + size
            at += size
        elif kind == _VARINT:
            _, at = _varint(data, at, stop)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise IndexError(f"unknown wire type {kind}")
    if at > stop:
        raise IndexError("the last field is cut off")


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError("a number is cut off")
