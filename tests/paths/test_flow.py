"""Clients that send faster than they are answered, or do not read: what waits for them is bounded, and it is kept."""

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from fastserve.dataplane import DataPlane
from fastserve.frontends.http.connection import Connection, Phase
from fastserve.registry import Registry
from tests import models
from tests.paths.workers import Running, post, status, worker
from tests.registries import publish
from tests.waiting import until

MIB = 2**20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("flow") / "registry")
    publish(registry, "scaled", models.scaled())
    return registry.path


@pytest.fixture
def patience_s() -> float:
    """How long the server waits for a client; longer than any machine takes over these tests."""
    return 300.0


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def way(request: pytest.FixtureRequest, registry: Path, patience_s: float) -> Iterator[Running]:
    http = {"fast_path": request.param, "read_timeout_s": patience_s, "keep_alive_s": patience_s / 2}
    with worker(registry, http=http) as running:
        yield running


def request_of(rows: int) -> bytes:
    tensor = {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": [0.125] * (3 * rows)}
    return post("/v2/models/scaled/infer", json.dumps({"inputs": [tensor]}).encode())


def connections(way: Running) -> list[Connection]:
    assert way.worker.server is not None
    return [one for one in list(way.worker.server.server_state.connections) if isinstance(one, Connection)]


def only(way: Running) -> Connection:
    """The one connection that is left once the server knows that those before have gone."""
    until(lambda: len(connections(way)) == 1)
    (one,) = connections(way)
    return one


def test_a_client_that_sends_faster_than_it_is_answered(way: Running) -> None:
    number = 8_000 if way.environment.shared.routes else 1_500
    block = request_of(40)
    most = 0
    with way.connect() as connection:
        sender = threading.Thread(target=connection.raw.sendall, args=(block * number,))
        sender.start()
        for _ in range(number):
            assert status(connection.response()) == 200
            most = max(most, *(len(one._pending) for one in connections(way)))
        sender.join()
    assert most < MIB, "the limit and what the socket gave at once"
    assert len(block) * number > MIB


def test_a_client_that_reads_late_is_waited_for_and_has_all_its_answers(
    way: Running, patience_s: float
) -> None:
    block = request_of(4_000)
    sent = 0
    with way.connect() as connection:
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        connection.raw.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < 1_000:
                connection.raw.sendall(block)
                sent += 1
        assert 1 < sent < 1_000, "at some time the server reads no more"
        one = only(way)
        assert one._transport.get_write_buffer_size() < MIB
        assert len(one._pending) < MIB
        one._loop.call_soon_threadsafe(one.sweep, time.monotonic() + 0.7 * patience_s)
        connection.raw.settimeout(120)
        for _ in range(sent):
            assert status(connection.response()) == 200


@pytest.mark.parametrize("patience_s", [1.0])
def test_a_client_that_never_reads_is_let_go(way: Running) -> None:
    block = request_of(4_000)
    with way.connect() as connection:
        connection.raw.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                connection.raw.sendall(block)
        until(lambda: not connections(way))


def test_an_idle_connection_holds_nothing_of_the_request_before(way: Running) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    bodies = [json.dumps({"id": "a" * MIB, "inputs": inputs}).encode() for inputs in ([tensor], [])]
    with way.connect() as connection:
        for content, expected in zip(bodies, (200, 400), strict=True):
            assert status(connection.ask(post("/v2/models/scaled/infer", content))) == expected
            one = only(way)
            assert one._exchange.envelope.id_json is None


def test_an_idle_connection_is_kept_for_its_time_by_a_clock_that_is_a_second_behind(
    way: Running, patience_s: float
) -> None:
    with way.connect() as connection:
        assert status(connection.ask(request_of(1))) == 200
        one = only(way)
        for late_s in (0.9, 1.1):
            swept = threading.Event()
            one._loop.call_soon_threadsafe(one.sweep, one._exchange.since_s + patience_s / 2 + late_s)
            one._loop.call_soon_threadsafe(swept.set)
            assert swept.wait(20)
            assert one._transport.is_closing() == (late_s > 1)
        assert connection.closed()


@pytest.mark.parametrize("cut", [20, -1], ids=["head", "body"])
def test_a_request_has_its_time_from_its_own_first_byte_on(way: Running, patience_s: float, cut: int) -> None:
    with way.connect() as connection:
        assert status(connection.ask(request_of(1))) == 200
        one = only(way)
        way.environment.shared.now_s -= 0.9  # as far as between two sweeps
        began_s = one._loop.time()
        connection.raw.sendall(request_of(1)[:cut])
        until(lambda: one._received > 0)
        for late_s in (-0.1, 99.0):
            swept = threading.Event()
            one._loop.call_soon_threadsafe(one.sweep, began_s + patience_s + late_s)
            one._loop.call_soon_threadsafe(swept.set)
            assert swept.wait(20)
            assert (one._phase == Phase.DISCARD) == (late_s > 0)
        assert status(connection.response()) == 408


def test_what_is_done_once_a_second_goes_on_although_it_failed(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, done = [ZeroDivisionError()], threading.Event()

    def housekeep(_: DataPlane) -> None:
        if failures:
            raise failures.pop()
        done.set()

    monkeypatch.setattr(DataPlane, "housekeep", housekeep)
    with worker(registry, http={"read_timeout_s": 0.2}):
        assert done.wait(20)


def test_new_connections_do_not_wait_for_as_many_turns_of_a_busy_loop(way: Running) -> None:
    """uvloop accepts one of each listening socket in a turn, whoever waits behind it."""
    release = threading.Event()
    seen: list[int] = []

    def look() -> None:
        seen.append(len(connections(way)))
        if seen[-1] < 65:
            loop.call_soon(look)

    with contextlib.ExitStack() as clients:
        connection = clients.enter_context(way.connect())
        assert status(connection.ask(request_of(1))) == 200
        loop = only(way)._loop
        loop.call_soon_threadsafe(release.wait, 60)
        loop.call_soon_threadsafe(look)
        for _ in range(64):
            clients.enter_context(way.connect())
        release.set()
        until(lambda: seen and seen[-1] == 65)
    assert max(after - before for before, after in pairwise(seen)) >= 16


@pytest.mark.parametrize("fast", [True, False])
def test_who_is_accepted_as_the_server_stops_is_told_to_go(
    registry: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    """uvicorn tells those that it knows by then; who asked on and on would keep the process for `drain_s`."""
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 0.0, 0.0]}
    request = post("/v2/models/scaled/infer", json.dumps({"inputs": [tensor]}).encode())
    with worker(registry, http={"fast_path": fast}) as stopping:
        server = stopping.worker.server
        assert server is not None
        with monkeypatch.context() as patch:
            patch.setattr(server, "stop", lambda: None)
            server.handle_exit(signal.SIGTERM, None)
        with stopping.connect() as probe:
            assert status(probe.ask(b"GET /v2/health/ready HTTP/1.1\r\nHost: t\r\n\r\n")) == 503
        with stopping.connect() as silent, stopping.connect() as asking:
            answer = asking.ask(request)
            assert status(answer) == 200 and b"\r\nconnection: close\r\n" in answer.lower()
            assert asking.closed() and silent.closed()
