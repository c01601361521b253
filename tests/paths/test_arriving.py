"""Requests that arrive slowly, or go wrong when they are answered already; both ways alike."""

import time

import pytest

from tests.paths.test_connection import first, row
from tests.paths.workers import Running, post, status


def test_what_is_refused_after_its_answer_gets_no_second_one(
    way: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(way.environment, "count_code", counted.append)
    with way.connect() as connection:
        connection.raw.sendall(
            b"POST /v2/models/none/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        )
        assert status(connection.response()) == 404
        connection.raw.sendall(b"zz\r\n")
        assert connection.closed()
    assert counted == []


def test_what_has_arrived_earns_a_request_more_time(way: Running) -> None:
    """Two seconds without it, and one for every 64 KiB."""
    sent = post("/v2/models/scaled/infer", b" " * 300_000 + row(1.0))
    with way.connect() as connection:
        connection.raw.sendall(sent[:-1])
        time.sleep(4.0)
        assert first(connection.ask(sent[-1:])) == 2.0
