"""Bodies that come in many reads: in any pieces, with requests before and behind them, or not to their end."""

import contextlib
import os
import random
import socket
import struct
import time
from types import SimpleNamespace

import pytest

from tests.paths.test_connection import first, infer, row
from tests.paths.test_flow import connections
from tests.paths.workers import Connection, Running, body, post, status
from tests.processes import rss_bytes
from tests.waiting import until


def large(value: float, *headers: str, size: int = 500_000) -> bytes:
    return post("/v2/models/scaled/infer", row(value).ljust(size), *headers)


def send(connection: Connection, data: bytes, cuts: random.Random) -> None:
    """In pieces of one byte to a quarter of a megabyte, some of them apart in time."""
    while data:
        size = int(2 ** cuts.uniform(0, 18))
        connection.raw.sendall(data[:size])
        data = data[size:]
        if cuts.random() < 0.3:
            time.sleep(0.001)


@pytest.mark.parametrize("seed", range(6))
def test_any_pieces_with_requests_before_and_behind(way: Running, seed: int) -> None:
    cuts = random.Random(seed)
    sizes = [cuts.choice([150, 2_000, 70_000, 130_000, 300_000, 900_000]) for _ in range(12)]
    sent = b"".join(large(float(i), size=size) for i, size in enumerate(sizes))
    before = way.fast_requests
    with way.connect() as connection:
        send(connection, sent, cuts)
        assert [first(connection.response()) for _ in sizes] == [2.0 * i for i in range(len(sizes))]
        assert first(connection.ask(infer(5.0))) == 10.0
    assert way.fast_requests - before == (13 if way.environment.options.fast_path else 0)


def test_the_last_request_of_a_connection(way: Running) -> None:
    with way.connect() as connection:
        assert first(connection.ask(large(1.0, "Connection: close"))) == 2.0
        assert connection.closed()


def test_both_ways_refuse_alike(both: SimpleNamespace) -> None:
    wrong = post("/v2/models/scaled/infer", row(1.0).replace(b'"x"', b'"y"').ljust(400_000))
    broken = post("/v2/models/scaled/infer", row(1.0)[:-1].ljust(400_000))
    answers = []
    for running in (both.fast, both.ordinary):
        with running.connect() as connection:
            answers.append([connection.ask(wrong), connection.ask(broken), connection.ask(infer(1.0))])
    assert answers[0] == answers[1]
    assert [status(answer) for answer in answers[0]] == [400, 400, 200]


def test_one_that_stops_coming_is_told_so_and_what_follows_is_thrown_away(way: Running) -> None:
    sent = large(1.0)
    with way.connect() as connection:
        connection.raw.sendall(sent[:100_000])
        answer = connection.response()
        assert status(answer) == 408, "two seconds, and one and a half for what has come"
        with contextlib.suppress(OSError):  # the server may have closed it
            connection.raw.sendall(sent[100_000:])
        assert connection.closed()


def test_one_that_ends_early(way: Running) -> None:
    with way.connect() as connection:
        connection.raw.sendall(large(1.0)[:-1])
        connection.raw.shutdown(socket.SHUT_WR)
        answer = connection.response()
        assert status(answer) == 400
        assert b"ended before it was complete" in body(answer)
        assert connection.closed()


def test_a_client_that_vanishes_disturbs_nobody(way: Running) -> None:
    before = len(connections(way))
    for _ in range(20):
        connection = way.connect()
        connection.raw.sendall(large(1.0)[:300_000])
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.raw.close()
    with way.connect() as connection:
        assert first(connection.ask(large(2.0))) == 4.0
    until(lambda: len(connections(way)) <= before)


def test_what_is_announced_takes_no_memory_before_it_comes(way: Running) -> None:
    sent = large(3.0, size=1_000_000)
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(way.connect()) for _ in range(150)]
        before = rss_bytes(os.getpid())
        for connection in clients:
            connection.raw.sendall(sent[:200])
        until(lambda: sum(at._received > 0 for at in connections(way)) >= 150)
        assert rss_bytes(os.getpid()) < before + 40 * 2**20
        for connection in clients[:3]:
            assert first(connection.ask(sent[200:])) == 6.0
