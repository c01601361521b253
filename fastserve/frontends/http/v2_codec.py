"""Open Inference Protocol requests to tensors: the reading that the compiled path must equal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.errors import quoted
from fastserve.frontends.http.json_text import loads
from fastserve.frontends.http.tensors import checked_shape, from_binary, from_json, objects
from fastserve.types import Array, DataType, Signature, TensorSpec

Selection = tuple[tuple[int, bool], ...] | None
"""(output index, binary) in the order of the answer; None = all outputs as JSON."""

_UNSUPPORTED = ("classification", "sequence_", "shared_memory_")
"""Parameters that change the answer's meaning, so that ignoring them would be a wrong answer."""

_MAX_TIMEOUT_US = 2**63 - 1


@dataclass(slots=True)
class InferRequest:
    """A request whose tensors fit the signature."""

    inputs: dict[str, Array]
    rows: int
    """Common size of dimension 0, or -1 for a model without batch dimension."""
    id_json: bytes | None = None
    selection: Selection = None
    timeout_us: int | None = None


@dataclass(slots=True)
class _Tail:
    """The bytes after the JSON, handed out in the order of the inputs."""

    raw: memoryview
    at: int = 0

    def take(self, size: int, name: str) -> memoryview:
        left = len(self.raw) - self.at
        if size > left:
            raise InvalidRequest(f"{name} is {size}, but only {left} bytes of binary data are left", name)
        self.at += size
        return self.raw[self.at - size : self.at]

    def finish(self) -> None:
        left = len(self.raw) - self.at
        if left:
            raise InvalidRequest(f"the body has {left} bytes of binary data that no input asks for", "body")


def decode(body: bytes, json_length: int | None, signature: Signature, max_depth: int) -> InferRequest:
    """Read an infer request.

    Parameters
    ----------
    body
        JSON, then the binary tensors.
    json_length
        Bytes of JSON at the start of `body`; None: all of it; 0: the body is the only input's raw data.
    signature
        What the tensors must fit.
    max_depth
        Levels of JSON nesting.

    Raises
    ------
    InvalidRequest
        Names the field that is wrong.
    """
    if json_length == 0:
        return _decode_raw(body, signature)
    if json_length is not None and json_length > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes",
            "Inference-Header-Content-Length",
        )
    text = body if json_length is None else body[:json_length]
    document = loads(text, max_depth)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object", "body")
    parameters = _parameters(document, "parameters")
    tail = _Tail(memoryview(body)[len(text) :])
    inputs, rows = _inputs(document.get("inputs"), signature, tail)
    tail.finish()
    return InferRequest(
        inputs,
        rows,
        _id(document.get("id")),
        _selection(document.get("outputs"), parameters, signature),
        _timeout(parameters),
    )


def _id(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest("id must be a string", "id")
    return orjson.dumps(value) if value else None


def _parameters(owner: dict[str, Any], name: str) -> dict[str, Any]:
    value = owner.get("parameters")
    if value is None:  # as clients write it whose types have the key in any case
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be an object", name)
    for key in value:
        if key.startswith(_UNSUPPORTED):
            raise InvalidRequest(f"{name}: {quoted(key)} is not supported by this server", name)
    return value


def _boolean(parameters: dict[str, Any], key: str, name: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name}.{key} must be true or false", f"{name}.{key}")
    return value


def _timeout(parameters: dict[str, Any]) -> int | None:
    if "timeout" not in parameters:
        return None
    value = parameters["timeout"]
    if type(value) is not int or not 0 <= value <= _MAX_TIMEOUT_US:
        raise InvalidRequest(
            "parameters.timeout must be a whole number of microseconds", "parameters.timeout"
        )
    return value


# -- inputs -----------------------------------------------------------------------------------------------


def _inputs(entries: object, signature: Signature, tail: _Tail) -> tuple[dict[str, Array], int]:
    if not isinstance(entries, list):
        raise InvalidRequest("inputs must be a list of tensors", "inputs")
    specs = {spec.name: spec for spec in signature.inputs}
    arrays: dict[str, Array] = {}
    rows = -1
    for i, entry in enumerate(entries):
        place = f"inputs[{i}]"
        spec = _spec(entry, specs, place)
        if spec.name in arrays:
            raise InvalidRequest(f"{place}.name: input {quoted(spec.name)} is given twice", f"{place}.name")
        shape = _shape(entry, spec, signature.batched, place)
        if signature.batched:
            if rows >= 0 and shape[0] != rows:
                raise InvalidRequest(
                    f"{place}.shape has {shape[0]} rows, the inputs before it have {rows}", f"{place}.shape"
                )
            rows = shape[0]
        arrays[spec.name] = _tensor(entry, spec, shape, tail, place)
    for name in specs:
        if name not in arrays:
            raise InvalidRequest(f"inputs: input {quoted(name)} is missing", "inputs")
    return arrays, rows


def _spec(entry: object, specs: dict[str, TensorSpec], place: str) -> TensorSpec:
    if not isinstance(entry, dict):
        raise InvalidRequest(f"{place} must be an object", place)
    name = _text(entry, "name", place)
    spec = specs.get(name)
    if spec is None:
        known = ", ".join(specs)
        raise InvalidRequest(
            f"{place}.name: the model has no input {quoted(name)}, it has: {known}", f"{place}.name"
        )
    datatype = _text(entry, "datatype", place)
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"{place}.datatype: input {quoted(name)} is {spec.datatype}, not {quoted(datatype)}",
            f"{place}.datatype",
        )
    return spec


def _text(entry: dict[str, Any], key: str, place: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{place}.{key} must be a string", f"{place}.{key}")
    return value


def _shape(entry: dict[str, Any], spec: TensorSpec, batched: bool, place: str) -> tuple[int, ...]:
    shape = checked_shape(entry.get("shape"), f"{place}.shape")
    if not spec.fits(shape):
        raise InvalidRequest(
            f"{place}.shape: input {quoted(spec.name)} has shape {list(spec.shape)}, not {list(shape)}",
            f"{place}.shape",
        )
    if batched and shape[0] < 1:
        raise InvalidRequest(f"{place}.shape: input {quoted(spec.name)} has no rows", f"{place}.shape")
    return shape


def _tensor(
    entry: dict[str, Any], spec: TensorSpec, shape: tuple[int, ...], tail: _Tail, place: str
) -> Array:
    parameters = _parameters(entry, f"{place}.parameters")
    if "binary_data_size" not in parameters:
        if "data" not in entry:
            raise InvalidRequest(f"{place}.data is missing", f"{place}.data")
        return from_json(entry["data"], spec.datatype, shape, f"{place}.data")
    name = f"{place}.parameters.binary_data_size"
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"{name} must be a whole number of bytes", name)
    if "data" in entry:
        raise InvalidRequest(f"{place} has both data and parameters.binary_data_size", f"{place}.data")
    return from_binary(tail.take(size, name), spec.datatype, shape, name)


# -- outputs ----------------------------------------------------------------------------------------------


def _selection(entries: object, parameters: dict[str, Any], signature: Signature) -> Selection:
    all_binary = _boolean(parameters, "binary_data_output", "parameters", False)
    if entries is not None and not isinstance(entries, list):
        raise InvalidRequest("outputs must be a list", "outputs")
    if not entries:
        return _all_binary(signature.outputs) if all_binary else None
    names = [spec.name for spec in signature.outputs]
    chosen: dict[int, bool] = {}
    for i, entry in enumerate(entries):
        place = f"outputs[{i}]"
        if not isinstance(entry, dict):
            raise InvalidRequest(f"{place} must be an object", place)
        name = _text(entry, "name", place)
        if name not in names:
            known = ", ".join(names)
            raise InvalidRequest(
                f"{place}.name: the model has no output {quoted(name)}, it has: {known}", f"{place}.name"
            )
        at = names.index(name)
        if at in chosen:
            raise InvalidRequest(f"{place}.name: output {quoted(name)} is asked for twice", f"{place}.name")
        options = _parameters(entry, f"{place}.parameters")
        chosen[at] = _boolean(options, "binary_data", f"{place}.parameters", all_binary)
    return tuple(chosen.items())


def _all_binary(outputs: Sequence[TensorSpec]) -> Selection:
    return tuple((i, True) for i in range(len(outputs)))


# -- the body is the tensor -------------------------------------------------------------------------------


def _decode_raw(body: bytes, signature: Signature) -> InferRequest:
    """Read a body without JSON: the data of the only input, everything answered in binary."""
    if len(signature.inputs) != 1:
        raise InvalidRequest(
            f"a raw binary request needs a model with one input, this one has {len(signature.inputs)}",
            "Inference-Header-Content-Length",
        )
    spec = signature.inputs[0]
    if spec.datatype is DataType.BYTES:
        if any(dim not in (-1, 1) for dim in spec.shape):
            raise InvalidRequest(
                f"a raw binary request is one string, input {quoted(spec.name)} has shape {list(spec.shape)}",
                "Inference-Header-Content-Length",
            )
        shape = (1,) * len(spec.shape)
        try:
            array = objects([str(body, "utf-8")]).reshape(shape)
        except UnicodeDecodeError:
            raise InvalidRequest("body: the data is not valid UTF-8", "body") from None
    else:
        shape = _raw_shape(spec, len(body), signature.batched)
        array = from_binary(memoryview(body), spec.datatype, shape, "body")
    rows = shape[0] if signature.batched else -1
    return InferRequest({spec.name: array}, rows, selection=_all_binary(signature.outputs))


def _raw_shape(spec: TensorSpec, size_bytes: int, batched: bool) -> tuple[int, ...]:
    """Solve for the one variable dimension; with a second one beside the batch, the batch is 1."""
    shape = list(spec.shape)
    variable = [axis for axis, dim in enumerate(shape) if dim < 0]
    if batched and len(variable) > 1:
        shape[0] = 1
        variable = variable[1:]
    if len(variable) > 1:
        raise InvalidRequest(
            f"a raw binary request needs at most one variable dimension, input {quoted(spec.name)} has "
            f"shape {list(spec.shape)}",
            "Inference-Header-Content-Length",
        )
    unit_bytes = math.prod(dim for dim in shape if dim >= 0) * spec.datatype.itemsize
    if not unit_bytes:
        raise InvalidRequest(
            f"a raw binary request needs values, input {quoted(spec.name)} has shape {list(spec.shape)}",
            "Inference-Header-Content-Length",
        )
    if variable:
        count = size_bytes // unit_bytes
        shape[variable[0]] = count
        if count < 1 or count * unit_bytes != size_bytes:
            raise InvalidRequest(
                f"the body has {size_bytes} bytes, input {quoted(spec.name)} of shape {list(spec.shape)} and "
                f"datatype {spec.datatype} takes a multiple of {unit_bytes}",
                "body",
            )
    return tuple(shape)
