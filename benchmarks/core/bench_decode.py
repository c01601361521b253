"""JSON requests into the batch buffer, beside orjson and NumPy doing the same.

Run with `pytest benchmarks/core/bench_decode.py --benchmark-only --benchmark-group-by=group`; a group is one
body, read by `fastserve` and by `orjson_numpy`. A table is 1024 rows of 32 features: 32,768 numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from fastserve_core.wire.decode import Envelope, RequestDecoder, RowBuffers

ROWS, FEATURES = 1024, 32
SEED = 20130101

Print = Callable[[float], str]
PRINTED: dict[str, tuple[str, Print]] = {
    "uniform, 9 digits": ("uniform", lambda x: f"{x:.9g}"),
    "normal, 9 digits": ("normal", lambda x: f"{x:.9g}"),
    "normal, rounded to 9 places": ("normal", lambda x: repr(round(x, 9))),
    "normal, float32": ("normal", lambda x: str(np.float32(x))),
    "normal, float64 (17 digits)": ("normal", repr),
    "uniform, 2 places": ("uniform", lambda x: f"{1000 * x:.2f}"),
    "uniform, integers": ("uniform", lambda x: str(int(10_000 * x))),
}


def values(distribution: str, count: int) -> list[float]:
    generator = np.random.default_rng(SEED)
    drawn = generator.random(count) if distribution == "uniform" else generator.standard_normal(count)
    return [float(x) for x in drawn]


def request(numbers: list[str], rows: int, separator: str = ",", *, nested: bool = False) -> bytes:
    """An infer request of one FP32 input."""
    width = len(numbers) // rows
    parts = [separator.join(numbers[at : at + width]) for at in range(0, len(numbers), width)]
    data = separator.join(f"[{part}]" for part in parts) if nested else separator.join(parts)
    head = f'{{"inputs":[{{"name":"x","shape":[{rows},{width}],"datatype":"FP32"'
    return f'{head},"data":[{data}]}}]}}'.encode()


def fastserve(body: bytes, rows: int) -> tuple[Callable[[], Any], Callable[[], np.ndarray[Any, Any]]]:
    """The call to time, and what it wrote."""
    array = np.zeros((rows, FEATURES), np.float32)
    decoder, buffers, envelope = (
        RequestDecoder([("x", "FP32", (FEATURES,))], ["y"]),
        RowBuffers([array]),
        Envelope(),
    )
    size = len(body)

    def run() -> int:
        return decoder.decode(body, 0, -1, size, buffers, 0, rows, envelope)

    return run, lambda: array


def orjson_numpy(body: bytes, rows: int) -> tuple[Callable[[], Any], Callable[[], np.ndarray[Any, Any]]]:
    """The same tensor as every Python server makes it."""

    def run() -> np.ndarray[Any, Any]:
        return np.asarray(orjson.loads(body)["inputs"][0]["data"], np.float32)

    return run, lambda: run().reshape(rows, FEATURES)


READERS = [fastserve, orjson_numpy]


def measure(benchmark: Any, reader: Any, body: bytes, rows: int) -> None:
    run, tensor = reader(body, rows)
    expected = orjson_numpy(body, rows)[1]()
    benchmark(run)
    assert tensor().tobytes() == expected.tobytes()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("printed", PRINTED)
def test_table(benchmark: Any, printed: str, reader: Any) -> None:
    distribution, text = PRINTED[printed]
    benchmark.group = f"1024 x 32, {printed}"
    measure(benchmark, reader, request([text(x) for x in values(distribution, ROWS * FEATURES)], ROWS), ROWS)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_table_with_spaces(benchmark: Any, nested: bool, reader: Any) -> None:
    benchmark.group = (
        f"1024 x 32, normal, 9 digits, a space after each comma, {'nested' if nested else 'flat'}"
    )
    numbers = [f"{x:.9g}" for x in values("normal", ROWS * FEATURES)]
    measure(benchmark, reader, request(numbers, ROWS, ", ", nested=nested), ROWS)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_one_row(benchmark: Any, reader: Any) -> None:
    benchmark.group = "1 x 32, uniform, 9 digits"
    measure(benchmark, reader, request([f"{x:.9g}" for x in values("uniform", FEATURES)], 1), 1)
