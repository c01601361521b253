"""The server a good engineer writes in an afternoon: FastAPI, orjson, NumPy and onnxruntime, in one file.

It has to be fair, so it does nothing that is known to be slow: no pydantic model over the numbers, no thread
for a model that takes microseconds, no list on the way out (orjson reads NumPy arrays itself). It is started
with uvicorn's fastest loop and parser, without an access log.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import orjson
from fastapi import FastAPI, HTTPException, Request, Response

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "INT64": np.dtype(np.int64),
}
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
HEADER_LENGTH = "inference-header-content-length"


def parse(body: bytes, json_length: int | None) -> tuple[dict[str, Array], bool]:
    """Read a v2 inference request.

    Returns
    -------
    tensors : dict of ndarray, each of the shape the request says
    binary : whether the answer is asked for as binary tensors
    """
    request = orjson.loads(body if json_length is None else memoryview(body)[:json_length])
    position = json_length or 0
    tensors: dict[str, Array] = {}
    for tensor in request["inputs"]:
        dtype = DTYPES[tensor["datatype"]]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.asarray(tensor["data"], dtype=dtype)
        else:
            array = np.frombuffer(body, dtype, count=size // dtype.itemsize, offset=position)
            position += size
        tensors[tensor["name"]] = array.reshape(tensor["shape"])
    return tensors, bool(request.get("parameters", {}).get("binary_data_output", False))


def answer_json(model: str, names: Sequence[str], arrays: Sequence[Array]) -> bytes:
    """Write a v2 inference response with every tensor as flat JSON data."""
    outputs = [
        {"name": name, "datatype": DATATYPES[array.dtype], "shape": array.shape, "data": array.reshape(-1)}
        for name, array in zip(names, arrays, strict=True)
    ]
    return orjson.dumps(
        {"model_name": model, "model_version": "1", "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def answer_binary(model: str, names: Sequence[str], arrays: Sequence[Array]) -> tuple[bytes, int]:
    """Write a v2 inference response with binary tensors; also the length of its JSON part."""
    outputs = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype],
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in zip(names, arrays, strict=True)
    ]
    head = orjson.dumps({"model_name": model, "model_version": "1", "outputs": outputs})
    return b"".join([head, *(array.tobytes() for array in arrays)]), len(head)


def answer_rows(names: Sequence[str], arrays: Sequence[Array]) -> bytes:
    """Write the answer of TensorFlow Serving's `:predict`: bare rows of one output, objects of several."""
    if len(arrays) == 1:
        return orjson.dumps({"predictions": arrays[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
    columns = (array.tolist() for array in arrays)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return orjson.dumps({"predictions": rows})


def respond(model: str, names: Sequence[str], arrays: Sequence[Array], binary: bool) -> Response:
    """Wrap the answer in the response that its kind needs."""
    if not binary:
        return Response(answer_json(model, names, arrays), media_type="application/json")
    content, json_length = answer_binary(model, names, arrays)
    return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_length)})


def open_session(path: str) -> ort.InferenceSession:
    """Load a model for one core: one intra-op thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def create_app(environment: Mapping[str, str] = os.environ) -> FastAPI:
    """Serve the one model that BENCHMARK_MODEL_NAME and BENCHMARK_MODEL_FILE name."""
    name = environment["BENCHMARK_MODEL_NAME"]
    session = open_session(environment["BENCHMARK_MODEL_FILE"])
    column = session.get_inputs()[0].name
    output_names = [output.name for output in session.get_outputs()]
    app = FastAPI(title="hand-written", openapi_url=None)

    @app.post("/v2/models/{model}/infer")
    async def infer(model: str, request: Request) -> Response:
        if model != name:
            raise HTTPException(404, f"no model {model}")
        json_length = request.headers.get(HEADER_LENGTH)
        body = await request.body()
        try:
            tensors, binary = parse(body, None if json_length is None else int(json_length))
            arrays = session.run(None, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, str(error)) from error
        return respond(name, output_names, arrays, binary)

    @app.post("/v1/models/{model}:predict")
    async def predict(model: str, request: Request) -> Response:
        if model != name:
            raise HTTPException(404, f"no model {model}")
        try:
            rows = np.asarray(orjson.loads(await request.body())["instances"], np.float32)
            arrays = session.run(None, {column: rows})
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, str(error)) from error
        return Response(answer_rows(output_names, arrays), media_type="application/json")

    return app
