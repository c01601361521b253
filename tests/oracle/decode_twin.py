"""The request decoder once more, with json and NumPy: the oracle of the compiled one.

It reads exactly the documented subset: what it refuses may still be a good request, which the ordinary path answers.
"""

import json
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

InputSpec = tuple[str, str, tuple[int, ...]]
Tensor = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    **{
        f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}")
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}


MARK = "\uf8ff"
"""Stands in no test's text: only the elements of BYTES tensors may have escapes."""


class Refused(Exception):
    """Not plainly valid."""


class Number(str):
    """A number's literal text."""

    @property
    def is_integer(self) -> bool:
        return not set(self) & set(".eE")


@dataclass
class Request:
    """What a request says; `selection` as the envelope has it."""

    tensors: list[Tensor]
    rows: int
    id_json: bytes | None = None
    timeout_us: int = -1
    selection: tuple[tuple[int, bool], ...] | None = None


def require(holds: bool) -> None:
    if not holds:
        raise Refused


def members(value: Any, *allowed: str) -> dict[str, Any]:
    """An object, which is parsed as its pairs, without repeats and keys that are not allowed."""
    require(isinstance(value, tuple) and {key for key, _ in value} <= set(allowed))
    require(len(dict(value)) == len(value))
    return dict(value)


def parameters(owner: dict[str, Any], *known: str) -> dict[str, Any]:
    """The known ones; others only need to be plain."""
    value = owner.get("parameters", ())
    require(isinstance(value, tuple))
    for key, other in value:
        if key in known:
            continue
        require(is_plain(key) and not key.startswith(("classification", "sequence_", "shared_memory_")))
        if isinstance(other, Number):
            count(other)
        else:
            require(isinstance(other, bool) or (isinstance(other, str) and is_plain(other)))
    return members(tuple(pair for pair in value if pair[0] in known), *known)


def is_plain(text: str) -> bool:
    return all(" " <= letter <= "~" for letter in text)


def refuse_constant(_: str) -> None:
    raise Refused


def mark_escaped(text: str) -> str:
    """The document with what strings with escapes say as their hexadecimal digits, and a mark before these."""

    def marked(string: re.Match[str]) -> str:
        if "\\" not in string[0]:
            return string[0]
        said: str = json.loads(string[0])
        return f'"{MARK}{said.encode("utf-8").hex()}"'

    return re.sub(r'"(?:[^"\\]|\\.)*"', marked, text)


def parse(text: bytes) -> Any:
    try:
        return json.loads(
            mark_escaped(text.decode("utf-8")),
            parse_int=Number,
            parse_float=Number,
            parse_constant=refuse_constant,
            object_pairs_hook=tuple,
        )
    except (ValueError, RecursionError):
        raise Refused from None


def count(value: Any) -> int:
    require(isinstance(value, Number) and value.isdigit() and len(value) <= 18)
    return int(value)


def real(value: Any, dtype: np.dtype[Any]) -> Any:
    if value is None:
        return dtype.type(math.nan)
    require(isinstance(value, Number))
    # A JSON library reads an integer literal as an integer, which has no negative zero.
    nearest = float(value)
    with np.errstate(over="ignore"):
        cast = dtype.type(nearest)
    require(bool(np.isfinite(cast)))
    return cast


def scalar(value: Any, datatype: str) -> Any:
    """One element from JSON."""
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        require(isinstance(value, bool))
        return value
    if datatype == "BYTES":
        require(isinstance(value, str) and not isinstance(value, Number))
        return bytes.fromhex(value[1:]).decode() if value.startswith(MARK) else value
    require(dtype.kind != "f" or datatype != "FP16")
    if dtype.kind == "f":
        return real(value, dtype)
    require(isinstance(value, Number) and value.is_integer and len(value) <= 24)
    limits = np.iinfo(dtype)
    require(limits.min <= int(value) <= limits.max)
    return int(value)


def flatten(value: Any, shape: Sequence[int]) -> list[Any]:
    """The elements of nested lists that are exactly like the shape."""
    if not shape:
        return [value]
    require(isinstance(value, list) and len(value) == shape[0])
    return [element for item in value for element in flatten(item, shape[1:])]


def from_json(data: Any, datatype: str, shape: Sequence[int]) -> Tensor:
    require(isinstance(data, list) and math.prod(shape) > 0)
    flat = flatten(data, shape) if data and isinstance(data[0], list) else data
    require(len(flat) == math.prod(shape))
    out = np.empty(len(flat), DTYPES[datatype])
    out[:] = [scalar(element, datatype) for element in flat]
    return out.reshape(shape)


def from_binary(data: bytes, datatype: str, shape: Sequence[int]) -> Tensor:
    if datatype != "BYTES":
        require(len(data) == math.prod(shape) * DTYPES[datatype].itemsize)
        require(datatype != "BOOL" or set(data) <= {0, 1})
        return np.frombuffer(data, DTYPES[datatype]).reshape(shape)
    texts: list[str] = []
    while data:
        require(len(data) >= 4)
        (length,) = struct.unpack_from("<I", data)
        require(len(data) >= 4 + length)
        try:
            texts.append(data[4 : 4 + length].decode("utf-8"))
        except UnicodeDecodeError:
            raise Refused from None
        data = data[4 + length :]
    require(len(texts) == math.prod(shape))
    out = np.empty(len(texts), object)
    out[:] = texts
    return out.reshape(shape)


def read_tensor(value: Any, inputs: Sequence[InputSpec], tail: bytes) -> tuple[int, Tensor, bytes]:
    """One element of `inputs`: its index, its tensor, and what it leaves of the binary tail."""
    tensor = members(value, "name", "shape", "datatype", "data", "parameters")
    size = parameters(tensor, "binary_data_size").get("binary_data_size")
    require({"name", "shape", "datatype"} <= set(tensor) and (size is None) == ("data" in tensor))
    names = [name for name, _, _ in inputs]
    require(tensor["name"] in names and not isinstance(tensor["name"], Number))
    index = names.index(tensor["name"])
    _, datatype, row_dims = inputs[index]
    require(tensor["datatype"] == datatype and not isinstance(tensor["datatype"], Number))
    require(isinstance(tensor["shape"], list))
    shape = tuple(count(dim) for dim in tensor["shape"])
    require(len(shape) == 1 + len(row_dims) and shape[0] >= 1 and shape[1:] == row_dims)
    require(shape[0] <= 1 << 20)  # beyond what any test has room for
    if size is None:
        return index, from_json(tensor["data"], datatype, shape), tail
    taken = count(size)
    require(taken <= len(tail))
    return index, from_binary(tail[:taken], datatype, shape), tail[taken:]


def read_outputs(value: Any, outputs: Sequence[str], default: bool) -> tuple[tuple[int, bool], ...] | None:
    require(isinstance(value, list))
    chosen = []
    for item in value:
        output = members(item, "name", "parameters")
        require("name" in output and output["name"] in outputs and not isinstance(output["name"], Number))
        binary = parameters(output, "binary_data").get("binary_data", default)
        require(isinstance(binary, bool))
        chosen.append((list(outputs).index(output["name"]), binary))
    require(len({index for index, _ in chosen}) == len(chosen))
    if chosen:
        return tuple(chosen)
    return tuple((index, True) for index in range(len(outputs))) if default else None


def read_raw(body: bytes, inputs: Sequence[InputSpec], outputs: Sequence[str]) -> Request:
    require(len(inputs) == 1 and inputs[0][1] != "BYTES")
    _, datatype, row_dims = inputs[0]
    row_bytes = math.prod(row_dims) * DTYPES[datatype].itemsize
    require(row_bytes > 0 and len(body) >= row_bytes and len(body) % row_bytes == 0)
    rows = len(body) // row_bytes
    tensor = from_binary(body, datatype, (rows, *row_dims))
    return Request([tensor], rows, selection=tuple((index, True) for index in range(len(outputs))))


def read_request(
    body: bytes, json_length: int, inputs: Sequence[InputSpec], outputs: Sequence[str]
) -> Request:
    """Read one body, or raise Refused."""
    require(-1 <= json_length <= len(body))
    if json_length == 0:
        return read_raw(body, inputs, outputs)
    text, tail = (body, b"") if json_length == -1 else (body[:json_length], body[json_length:])
    request = members(parse(text), "id", "parameters", "inputs", "outputs")
    require(isinstance(request.get("inputs"), list))
    found: dict[int, Tensor] = {}
    for value in request["inputs"]:
        index, tensor, tail = read_tensor(value, inputs, tail)
        require(index not in found)
        found[index] = tensor
    require(len(found) == len(inputs) and not tail)
    rows = {len(tensor) for tensor in found.values()}
    require(len(rows) == 1)
    result = Request([found[index] for index in range(len(inputs))], rows.pop())
    wanted = parameters(request, "timeout", "binary_data_output")
    if "timeout" in wanted:
        result.timeout_us = count(wanted["timeout"])
    binary = wanted.get("binary_data_output", False)
    require(isinstance(binary, bool))
    result.selection = read_outputs(request.get("outputs", []), outputs, binary)
    if "id" in request:
        identity = request["id"]
        require(isinstance(identity, str) and not isinstance(identity, Number))
        require(is_plain(identity))
        result.id_json = f'"{identity}"'.encode() if identity else None
    return result
