"""Writes /openapi.json: every served model's real schema, with an example that works as it stands."""

import math
from collections.abc import Iterable
from typing import Any

from fastserve import __version__
from fastserve.dataplane import Served
from fastserve.types import DataType, TensorSpec

Json = dict[str, Any]

_EXAMPLE_ELEMENTS = 4_096
"""Inputs with more elements a row, were sizes of 0 1, get no example: the page would be megabytes of it."""

_EXAMPLES: dict[DataType, object] = {DataType.BOOL: True, DataType.BYTES: "a"}

_OBJECT: Json = {"type": "object"}

_ERRORS = {
    "400": "The request is wrong; the sentence names the field.",
    "404": "No such model or version.",
    "413": "The body is over the limit.",
    "415": "The Content-Encoding is not supported.",
    "500": "The model failed.",
    "503": "The model is not ready, or its queue is full (Retry-After says when to come back).",
    "504": "The deadline passed before the model ran.",
}


def document(served: Iterable[Served]) -> Json:
    """Describe the server and every version in `served`, which are the ones that answer without a version."""
    paths: Json = _server_paths()
    schemas: Json = {
        "Error": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
    for one in served:
        name = one.name
        schemas[f"{name}.InferRequest"] = _infer_request(one)
        schemas[f"{name}.InferResponse"] = _infer_response(one)
        paths[f"/v2/models/{name}"] = {"get": _bodyless(f"Metadata of {name}", f"metadata-{name}", name)}
        paths[f"/v2/models/{name}/infer"] = {"post": _infer(one)}
        paths[f"/v1/models/{name}:predict"] = {"post": _predict(one)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fastserve",
            "version": __version__,
            "description": "Open Inference Protocol (v2) and TensorFlow Serving's predict (v1).",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _server_paths() -> Json:
    texts = {
        "/": "The process answers, and where its documentation is",
        "/healthz": "The process answers",
        "/v2": "Name, version and extensions of the server",
        "/v2/health/live": "The process answers",
        "/v2/health/ready": "Every model has a version that serves",
        "/v2/models": "Names of the models",
        "/v2/models/stats": "Statistics of all models",
    }
    paths: Json = {
        path: {"get": _bodyless(text, path.strip("/").replace("/", "-") or "root", "server")}
        for path, text in texts.items()
    }
    paths["/v2/health/ready"]["get"]["responses"]["503"] = {"description": "A model does not serve yet."}
    paths["/v2/repository/index"] = {
        "post": _bodyless("Every version with its state", "repository-index", "server", _list_of(_OBJECT)),
    }
    return paths


def _bodyless(summary: str, operation: str, tag: str, answer: Json = _OBJECT) -> Json:
    return {
        "summary": summary,
        "operationId": operation,
        "tags": [tag],
        "responses": {"200": _content("The answer.", answer)},
    }


def _list_of(items: Json) -> Json:
    """Describe a list; generators of clients leave out operations with lists that do not say of what."""
    return {"type": "array", "items": items}


def _content(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _operation(one: Served, kind: str, request: Json, response: Json, example: Json | None) -> Json:
    media: Json = {"schema": request}
    if example is not None:
        media["example"] = example
    errors = {code: _content(text, _ref("Error")) for code, text in _ERRORS.items()}
    return {
        "summary": f"{kind} with {one.name}",
        "operationId": f"{kind.lower()}-{one.name}",
        "tags": [one.name],
        "requestBody": {"required": True, "content": {"application/json": media}},
        "responses": {"200": _content("The answer.", response), **errors},
        "x-model": {
            "name": one.name,
            "version": one.version,
            "inputs": one.signature.inputs,
            "outputs": one.signature.outputs,
        },
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


# -- v2 ---------------------------------------------------------------------------------------------------


def _infer(one: Served) -> Json:
    example = None
    if _has_example(one):
        example = {
            "inputs": [
                {
                    "name": spec.name,
                    "shape": list(shape),
                    "datatype": str(spec.datatype),
                    "data": [_example_value(spec)] * math.prod(shape),
                }
                for spec, shape in _examples(one)
            ]
        }
    request, response = _ref(f"{one.name}.InferRequest"), _ref(f"{one.name}.InferResponse")
    operation = _operation(one, "Infer", request, response, example)
    operation["responses"]["200"]["content"]["application/octet-stream"] = {}  # binary outputs
    return operation


def _infer_request(one: Served) -> Json:
    tensors = [_input_schema(spec, one.signature.batched) for spec in one.signature.inputs]
    names = [spec.name for spec in one.signature.outputs]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Comes back in the answer."},
            "parameters": {
                "type": "object",
                "properties": {
                    "timeout": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "Microseconds the client waits.",
                    },
                    "binary_data_output": {"type": "boolean", "description": "All outputs as bytes."},
                },
            },
            "inputs": {
                "type": "array",
                "minItems": len(tensors),
                "maxItems": len(tensors),
                "items": _one_of(tensors),
            },
            "outputs": {
                "type": "array",
                "description": "Which outputs to answer; all when left out.",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string", "enum": names}},
                },
            },
        },
    }


def _infer_response(one: Served) -> Json:
    tensors = [_tensor_schema(spec) for spec in one.signature.outputs]
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"const": one.name},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": _list_of(_one_of(tensors)),
        },
    }


def _one_of(schemas: list[Json]) -> Json:
    """Alternatives; `oneOf` must have some."""
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas} if schemas else {}


def _input_schema(spec: TensorSpec, batched: bool) -> Json:
    """Describe a tensor to send, each of its dimensions too.

    Not by `const`: clients from generators take one dimension's for that of all.
    """
    schema = _tensor_schema(spec)
    sizes = [(0, None) if dim < 0 else (dim, dim) for dim in spec.shape]
    if batched:
        sizes[0] = (1, None)
    dims = [
        {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})
        for least, most in sizes
    ]
    if dims:
        schema["properties"]["shape"]["prefixItems"] = dims
    return schema


def _tensor_schema(spec: TensorSpec) -> Json:
    rank = len(spec.shape)
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": str(spec.datatype)},
            "shape": _list_of({"type": "integer"}) | {"minItems": rank, "maxItems": rank},
            "data": _list_of({}) | {"description": "Row-major, flat or nested like the shape."},
        },
    }


# -- v1 ---------------------------------------------------------------------------------------------------


def _predict(one: Served) -> Json:
    """Rows when each is answered by itself; columns when the model has none, or mixes or loses them."""
    batched = one.max_batch_rows > 0
    key, answer = ("instances", "predictions") if batched else ("inputs", "outputs")
    columns = {spec.name: _value_schema(spec, batched) for spec in one.signature.inputs}
    row: Json = {
        "type": "object",
        "required": list(columns),
        "properties": columns,
        "additionalProperties": False,
    }
    if len(columns) == 1:
        row = {"anyOf": [row, *columns.values()]}
    request: Json = {
        "type": "object",
        "required": [key],
        "properties": {key: {"type": "array", "minItems": 1, "items": row} if batched else row},
    }
    response: Json = {"type": "object", "required": [answer], "properties": {answer: {}}}
    example = None
    if _has_example(one):
        values = {spec.name: _example_nested(spec, shape, batched) for spec, shape in _examples(one)}
        example = {key: [values] if batched else values}
    return _operation(one, "Predict", request, response, example)


def _value_schema(spec: TensorSpec, batched: bool) -> Json:
    """Describe the value of a row, or of a whole tensor where there are none; a row of one may stand bare."""
    if spec.datatype is DataType.BYTES:
        schema: Json = {"type": "string"}
    elif spec.datatype is DataType.BOOL:
        schema = {"type": "boolean"}
    elif spec.datatype.is_float:
        schema = {"type": ["number", "null"], "description": "null stands for a missing number (NaN)."}
    else:
        schema = {"type": "integer"}
    bare = schema
    for dim in reversed(spec.shape[batched:]):
        schema = {"type": "array", "items": schema}
        if dim >= 0:
            schema |= {"minItems": dim, "maxItems": dim}
    return {"anyOf": [bare, schema]} if schema is not bare and _is_single(spec, batched) else schema


# -- examples ---------------------------------------------------------------------------------------------


def _has_example(one: Served) -> bool:
    sizes = (math.prod(max(dim, 1) for dim in shape) for shape in one.example_shapes)
    return sum(sizes) <= _EXAMPLE_ELEMENTS


def _examples(one: Served) -> Iterable[tuple[TensorSpec, tuple[int, ...]]]:
    """Every input, with the shape that the model was tried with: not every model runs on sizes of 1."""
    return zip(one.signature.inputs, one.example_shapes, strict=True)


def _example_value(spec: TensorSpec) -> object:
    return _EXAMPLES.get(spec.datatype, 0.5 if spec.datatype.is_float else 1)


def _is_single(spec: TensorSpec, batched: bool) -> bool:
    """Tell whether a row is one element, which may stand bare."""
    return batched and all(dim == 1 for dim in spec.shape[1:])


def _example_nested(spec: TensorSpec, shape: tuple[int, ...], batched: bool) -> object:
    value = _example_value(spec)
    if not _is_single(spec, batched):
        for dim in reversed(shape[batched:]):
            value = [value] * dim
    return value
