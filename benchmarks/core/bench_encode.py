"""The response encoder beside orjson with NumPy support, which a hand-written Python server would use.

Run with `pytest benchmarks/core/bench_encode.py --benchmark-only`.
"""

from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from fastserve_core.wire.encode import ResponseEncoder

SHAPES = [(1, 2), (32, 10), (1024, 10)]
HEAD = b"HTTP/1.1 200 OK\r\nserver: fastserve\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n"
DATATYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64}


def output(shape: tuple[int, int], datatype: str) -> NDArray[Any]:
    """Numbers as models give them: scores around 0, labels below 1000."""
    random = np.random.default_rng(7)
    values = random.integers(0, 1000, shape) if datatype == "INT64" else random.standard_normal(shape)
    return np.ascontiguousarray(values, DATATYPES[datatype])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.benchmark(group="encode")
def test_http(benchmark: Any, shape: tuple[int, int], datatype: str) -> None:
    encoder = ResponseEncoder("model", "1", [("y", datatype)])
    arrays = [output(shape, datatype)]
    benchmark(encoder.http, arrays, 0, shape[0], None, None, b"server: fastserve\r\n")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.benchmark(group="encode")
def test_http_binary(benchmark: Any, shape: tuple[int, int]) -> None:
    encoder = ResponseEncoder("model", "1", [("y", "FP32")])
    arrays = [output(shape, "FP32")]
    benchmark(encoder.http, arrays, 0, shape[0], None, ((0, True),), b"server: fastserve\r\n")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.benchmark(group="encode")
def test_orjson(benchmark: Any, shape: tuple[int, int], datatype: str) -> None:
    array = output(shape, datatype)

    def run() -> bytes:
        flat = array.reshape(-1)
        entry = {"name": "y", "datatype": datatype, "shape": array.shape, "data": flat}
        document = {"model_name": "model", "model_version": "1", "outputs": [entry]}
        body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        return HEAD % len(body) + body

    benchmark(run)
