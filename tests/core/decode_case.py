"""One body through the compiled decoder and its twin: what both say, what was written, and what must not be."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_core.wire.decode import HAND_OVER, NO_ROOM, Envelope, RequestDecoder, RowBuffers
from tests.oracle.decode_twin import DTYPES, InputSpec, Refused, Request, read_request

ROW, ROOM, CAPACITY = 3, 6, 13
OUTPUTS = ("p", "q")

# The same as in fuzz/decode_fuzzer.cpp.
SIGNATURES: list[list[InputSpec]] = [
    [("x", "FP32", (4,))],
    [("x", "FP64", ())],
    [("x", "INT8", (2, 3)), ("y", "UINT64", ())],
    [("a", "BOOL", (2,)), ("b", "INT64", (2,)), ("c", "FP16", (1,))],
    [("s", "BYTES", (2,)), ("x", "FP32", (1,))],
    [("x", "INT32", (1, 1, 2)), ("y", "UINT16", (1,))],
    [("e", "FP32", (0,)), ("x", "UINT8", ())],
]


X4, SCALAR, INTS, MIXED, STRINGS, DEEP, EMPTY = SIGNATURES


def request(*tensors: dict[str, Any], **rest: Any) -> bytes:
    return json.dumps({**rest, "inputs": list(tensors)}).encode()


def x4(data: Any, rows: int = 1, **rest: Any) -> bytes:
    return request({"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}, **rest)


def binary(*tensors: tuple[str, str, list[int], bytes], **rest: Any) -> tuple[bytes, int]:
    """A body whose tensors all follow the JSON, and the length of the JSON."""
    text = request(
        *(
            {
                "name": name,
                "shape": shape,
                "datatype": datatype,
                "parameters": {"binary_data_size": len(data)},
            }
            for name, datatype, shape, data in tensors
        ),
        **rest,
    )
    return text + b"".join(data for _, _, _, data in tensors), len(text)


def canary(datatype: str, row_dims: tuple[int, ...]) -> NDArray[Any]:
    """A buffer full of values that no request writes."""
    array = np.empty((CAPACITY, *row_dims), DTYPES[datatype])
    if datatype == "BYTES":
        array[...] = "canary"
    elif datatype != "BOOL":
        array.view(np.uint8)[...] = 0xA5
    else:
        array[...] = True
    return array


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal to the bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


@dataclass
class Outcome:
    """What the decoder answered, and the twin: None where it refused."""

    code: int
    envelope: Envelope
    tensors: list[NDArray[Any]]
    twin: Request | None


def decode(
    inputs: list[InputSpec],
    body: bytes,
    json_length: int = -1,
    *,
    room: int = ROOM,
    decoder: RequestDecoder | None = None,
    around: tuple[bytes, bytes] = (b"", b""),
) -> Outcome:
    """Run both; check everything that must hold whatever the body."""
    arrays = [canary(datatype, dims) for _, datatype, dims in inputs]
    before = [array.copy() for array in arrays]
    envelope = Envelope()
    decoder = decoder or RequestDecoder(inputs, OUTPUTS)
    data, start = around[0] + body + around[1], len(around[0])
    code = decoder.decode(
        data, start, json_length, start + len(body), RowBuffers(arrays), ROW, room, envelope
    )
    try:
        twin = read_request(body, json_length, inputs, OUTPUTS)
    except Refused:
        twin = None
    for array, old in zip(arrays, before, strict=True):
        assert same(array[:ROW], old[:ROW])
        assert same(array[ROW + room :], old[ROW + room :])
        if code == NO_ROOM or code > 0:
            assert same(array[ROW + max(code, 0) :], old[ROW + max(code, 0) :]) or code == NO_ROOM
    tensors = [array[ROW : ROW + max(code, 0)] for array in arrays]
    outcome = Outcome(code, envelope, tensors, twin)
    compare(outcome, room)
    return outcome


def compare(outcome: Outcome, room: int) -> None:
    """Decoder and twin accept the same bodies and read the same from them."""
    code, envelope, twin = outcome.code, outcome.envelope, outcome.twin
    if twin is None:
        assert code in (HAND_OVER, NO_ROOM)
        assert code == HAND_OVER or envelope.rows > room
        return
    assert code == (twin.rows if twin.rows <= room else NO_ROOM)
    assert envelope.rows == twin.rows
    if code == NO_ROOM:
        return
    assert envelope.id_json == twin.id_json
    assert envelope.timeout_us == twin.timeout_us
    assert envelope.selection == twin.selection
    assert all(same(got, want) for got, want in zip(outcome.tensors, twin.tensors, strict=True))
