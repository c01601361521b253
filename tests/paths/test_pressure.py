"""A model that is really busy: full queues, deadlines, clients that leave mid-batch, neighbours that share a batch."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastserve.registry import Registry
from tests import models
from tests.paths.workers import Running, body, post, status, worker
from tests.processes import rss_bytes
from tests.registries import publish
from tests.servers import running
from tests.waiting import until

WIDTH = 256
LIMIT_ROWS = 64
SLOW_ROWS = 50_000
"""Takes the large model a second or so, in batches of at most 256 rows on the executor's thread."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    registry = Registry(tmp_path_factory.mktemp("busy") / "registry")
    publish(registry, "large", models.mlp(WIDTH, 1024, 1024, 8))
    publish(registry, "narrow", models.mlp(1, 1024, 1024, 8))
    publish(registry, "ragged", models.variable_inner())
    batching = {"inline_max_us": 0, "max_batch_rows": 256, "max_queue_rows": LIMIT_ROWS}
    with (
        worker(registry.path, batching=batching, http={"fast_path": True}) as fast,
        worker(registry.path, batching=batching, http={"fast_path": False}) as ordinary,
    ):
        yield SimpleNamespace(fast=fast, ordinary=ordinary)


@pytest.fixture(params=["fast", "ordinary"])
def way(request: pytest.FixtureRequest, busy: SimpleNamespace) -> Running:
    running: Running = getattr(busy, request.param)
    return running


@pytest.mark.parametrize("fast_path", [True, False])
def test_rows_whose_answer_would_be_too_large(tmp_path: Path, fast_path: bool) -> None:
    """A byte in may be a thousand numbers out: what a body may ask for has a bound of its own."""
    registry = Registry(tmp_path / "registry")
    publish(registry, "large", models.mlp(1, 1_000))
    batching = {"max_answer_bytes": 2**20, "max_batch_rows": 64}
    most = 2**20 // 4_000
    with worker(registry.path, batching=batching, http={"fast_path": fast_path}) as way, way.connect() as one:
        for rows in (most, most + 1, 2**20, most):
            answer = one.ask(binary(np.ones((rows, 1), np.float32)))
            assert status(answer) == (200 if rows == most else 400)
            if rows != most:
                assert f"the answer to {rows} rows would take {4_000 * rows} bytes" in answer.decode()


def ask(values: np.ndarray[Any, Any], *headers: str, model: str = "large", **more: Any) -> bytes:
    tensor = {"name": "x", "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}
    return post(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor], **more}).encode(), *headers)


def binary(values: np.ndarray[Any, Any], model: str = "large") -> bytes:
    tensor = {
        "name": "x",
        "shape": list(values.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": values.nbytes},
    }
    text = json.dumps({"inputs": [tensor]}).encode()
    return post(
        f"/v2/models/{model}/infer", text + values.tobytes(), f"Inference-Header-Content-Length: {len(text)}"
    )


def outputs(response: bytes) -> list[float]:
    assert status(response) == 200, response[:500]
    data: list[float] = json.loads(body(response))["outputs"][0]["data"]
    return data


def stats(way: Running, model: str = "large") -> Any:
    """The counters of the one version, as the worker holds them."""
    plane = way.worker.plane
    assert plane is not None
    return plane.resolve(model).stats


class Slow:
    """Keeps the model busy with one huge request."""

    def __init__(self, way: Running, model: str = "large", width: int = WIDTH) -> None:
        self.connection = way.connect()
        before = stats(way, model).execution_count
        self.connection.raw.settimeout(60)
        self.connection.raw.sendall(binary(np.zeros((SLOW_ROWS, width), np.float32), model))
        until(lambda: stats(way, model).execution_count > before)

    def finish(self) -> None:
        assert len(outputs(self.connection.response())) == SLOW_ROWS * 8
        self.connection.raw.close()


def test_a_full_queue_is_refused_with_retry_after(way: Running) -> None:
    slow = Slow(way)
    rows = np.zeros((LIMIT_ROWS // 2, WIDTH), np.float32)
    with way.connect() as refused:
        answer = refused.ask(ask(rows))
        assert status(answer) == 503
        assert b"\r\nretry-after: 1\r\n" in answer
        assert "full" in json.loads(body(answer))["error"]
        slow.finish()
        assert len(outputs(refused.ask(ask(rows)))) == len(rows) * 8
    assert stats(way).rejected > 0


def test_hundreds_of_requests_in_a_row_that_are_refused_at_once(way: Running) -> None:
    """None of them is answered within the call that answers the one before."""
    slow = Slow(way, "narrow", 1)
    one = ask(np.zeros((1, 1), np.float32), model="narrow")
    with way.connect() as connection:
        connection.raw.sendall(one * 300)
        answers = [status(connection.response()) for _ in range(300)]
        assert answers.count(503) > 200 and set(answers) <= {200, 503}
        slow.finish()
        assert len(outputs(connection.ask(one))) == 8


def test_a_deadline_passes_while_the_model_is_busy_and_its_rows_never_run(busy: SimpleNamespace) -> None:
    """Deadlines come before everything else, so a request with one is let in ahead of the huge one and runs in time;
    one whose deadline is shorter than a run is refused and leaves no trace in the counters of rows."""
    way = busy.fast
    with way.connect() as connection:
        outputs(connection.ask(ask(np.zeros((1, WIDTH), np.float32))))
        rows_before, expired_before = stats(way).inference_count, stats(way).expired
        rows = np.ones((60, WIDTH), np.float32)
        by_header = connection.ask(ask(rows, "X-Request-Timeout-Ms: 1"))
        assert status(by_header) in (200, 504)
        assert status(connection.ask(ask(rows, parameters={"timeout": 1}))) == 504
        assert stats(way).expired > expired_before
        ran = stats(way).inference_count - rows_before
        assert ran == 60 * (2 - (stats(way).expired - expired_before))


def test_clients_that_leave_mid_batch_harm_nobody(way: Running) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((24, 1, WIDTH)).astype(np.float32)
    with way.connect() as single:
        expected = [outputs(single.ask(ask(v))) for v in values]
    connections = [way.connect() for _ in values]
    for connection, v in zip(connections, values, strict=True):
        connection.raw.sendall(ask(v))
    leaving = [0, 5, 11, 12, 23]
    for i in leaving:
        connections[i].raw.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        connections[i].raw.close()
    for i, connection in enumerate(connections):
        if i not in leaving:
            np.testing.assert_allclose(outputs(connection.response()), expected[i], rtol=1e-5, atol=1e-6)
            connection.raw.close()
    plane = way.worker.plane
    assert plane is not None
    lane = plane.resolve("large").lane
    assert lane is not None
    until(lambda: not lane.entries)


def test_a_waiting_client_that_leaves_is_withdrawn(way: Running) -> None:
    with way.connect() as warm:
        outputs(warm.ask(ask(np.zeros((1, WIDTH), np.float32))))
    cancelled = stats(way).cancelled
    connection = way.connect()
    connection.raw.sendall(binary(np.zeros((SLOW_ROWS, WIDTH), np.float32)))
    before = stats(way).execution_count
    until(lambda: stats(way).execution_count > before)
    connection.raw.close()
    until(lambda: stats(way).cancelled > cancelled)
    runs = stats(way).execution_count
    time.sleep(0.3)
    assert stats(way).execution_count <= runs + 2, "the rest of the request still runs"


def test_batched_answers_are_those_of_requests_alone(way: Running) -> None:
    rng = np.random.default_rng(1)
    values = [rng.standard_normal((int(rng.integers(1, 4)), WIDTH)).astype(np.float32) for _ in range(20)]
    with way.connect() as single:
        alone = [outputs(single.ask(ask(v))) for v in values]
    runs = stats(way).execution_count
    connections = [way.connect() for _ in values]
    for connection, v in zip(connections, values, strict=True):
        connection.raw.sendall(ask(v))
    for connection, expected in zip(connections, alone, strict=True):
        np.testing.assert_allclose(outputs(connection.response()), expected, rtol=1e-4, atol=1e-5)
        connection.raw.close()
    assert stats(way).execution_count - runs < len(values), "nothing was batched, so nothing was shown"


def test_mixed_shapes_are_batched_by_shape(way: Running) -> None:
    rng = np.random.default_rng(2)
    values = [rng.random((1, int(length))).astype(np.float32) for length in rng.integers(1, 6, 60)]
    before = stats(way, "ragged").execution_count
    slow = Slow(way)  # all models share the one thread that runs them

    def total(row: np.ndarray[Any, Any]) -> float:
        with way.connect() as connection:
            return outputs(connection.ask(ask(row, model="ragged")))[0]

    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(total, values))
    slow.finish()
    np.testing.assert_allclose(answers, [v.sum() for v in values], rtol=1e-5)
    assert stats(way, "ragged").execution_count - before < len(values), "nothing was batched"


def test_memory_comes_back_after_large_bodies(zoo: Path, tmp_path: Path) -> None:
    with running(zoo, tmp_path) as server:
        small = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
        good = (
            b'{"inputs":[{"name":"x","shape":[300000,3],"datatype":"FP32","data":['
            + b"0.25," * 899_999
            + b"1]}]}"
        )
        for _ in range(3):
            assert server.request("POST", "/v2/models/scaled/infer", good).status == 200
            assert server.request("POST", "/v2/models/scaled/infer", good[:-2]).status == 400
        before = rss_bytes(server.process.pid)
        for _ in range(15):
            assert server.request("POST", "/v2/models/scaled/infer", good).status == 200
            assert server.request("POST", "/v2/models/scaled/infer", good[:-2]).status == 400
            assert server.request("POST", "/v2/models/scaled/infer", small).status == 200
        assert rss_bytes(server.process.pid) < before + 60 * 2**20
