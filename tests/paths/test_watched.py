"""What a watcher sees of requests that follow each other closely on real connections: every row, as it was."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastserve.types import Array
from fastserve_core.lane import Lane
from tests.paths.workers import Running, post, worker

CLIENTS, REQUESTS, ROWS = 4, 30, 64


class Copies:
    """A watcher that keeps what it is shown."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []

    def update(self, inputs: Sequence[Array], outputs: Sequence[Array], rows: int) -> None:
        assert len(inputs[0]) == len(outputs[0]) == rows
        self.pairs += zip(inputs[0][:, 0].tolist(), outputs[0][:, 0].tolist(), strict=True)


@pytest.fixture(scope="module", params=[ROWS, 1024], ids=["full batches", "rows of several requests"])
def running(zoo: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    with worker(zoo, batching={"max_batch_rows": request.param}, http={"fast_path": True}) as one:
        yield one


def binary(values: Array) -> bytes:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": list(values.shape),
                    "parameters": {"binary_data_size": values.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return post(
        "/v2/models/scaled/infer", head + values.tobytes(), f"Inference-Header-Content-Length: {len(head)}"
    )


def plain(values: Array) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(values.shape), "data": values.tolist()}
    return post("/v2/models/scaled/infer", json.dumps({"inputs": [tensor]}).encode())


def test_every_row_is_seen_as_it_came(running: Running) -> None:
    """Pipelined, from several clients at once, in both forms: the worst that may happen to rows in a ring."""
    lane = running.environment.shared.routes[b"/v2/models/scaled/infer"]
    assert isinstance(lane, Lane)
    lane.owner.target.watch.watcher = copies = Copies()
    numbers = np.arange(CLIENTS * REQUESTS * ROWS, dtype=np.float32).reshape(CLIENTS, REQUESTS, ROWS, 1)
    rows = np.repeat(numbers, 3, axis=3)
    before = running.fast_requests

    def client(number: int) -> None:
        with running.connect() as connection:
            requests = [(plain if at % 5 == 4 else binary)(rows[number, at]) for at in range(REQUESTS)]
            connection.raw.sendall(b"".join(requests))
            for _ in requests:
                assert connection.response().startswith(b"HTTP/1.1 200")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    with running.connect() as connection:  # by then the loop has come round again
        assert connection.ask(plain(np.full((1, 3), -1, np.float32))).startswith(b"HTTP/1.1 200")
        assert connection.ask(plain(np.full((1, 3), -1, np.float32))).startswith(b"HTTP/1.1 200")
    lane.owner.target.watch.watcher = None
    seen = sorted(pair for pair in copies.pairs if pair[0] >= 0)
    assert seen == [(float(value), 2 * float(value)) for value in numbers.ravel()]
    assert running.fast_requests == before + CLIENTS * REQUESTS + 2
