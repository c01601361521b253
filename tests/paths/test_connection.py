"""How connections behave: order, persistence, slow and vanishing clients, old and odd clients; both ways alike."""

import contextlib
import gzip
import json
import socket
import struct
import time
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.paths.workers import Connection, Running, body, post, status
from tests.waiting import until

GET = b"GET /v2/models/scaled HTTP/1.1\r\nHost: t\r\n\r\n"


def row(value: float, **more: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [value, 0.0, 0.0]}
    return json.dumps({"inputs": [tensor], **more}).encode()


def infer(value: float, *headers: str, **more: Any) -> bytes:
    return post("/v2/models/scaled/infer", row(value, **more), *headers)


def first(response: bytes) -> float:
    return float(json.loads(body(response))["outputs"][0]["data"][0])


def test_keep_alive(way: Running) -> None:
    with way.connect() as connection:
        for i in range(50):
            assert first(connection.ask(infer(float(i)))) == 2.0 * i


def test_pipelined_requests_are_answered_in_order(way: Running) -> None:
    with way.connect() as connection:
        kinds = [infer(1.0), GET, infer(2.0), infer(3.0, "Accept: */*", "Connection: keep-alive"), GET]
        kinds += [infer(4.0, "Expect: nothing"), infer(5.0), infer(float("1e30")), GET, infer(6.0)]
        connection.raw.sendall(b"".join(kinds))
        answers = [connection.response() for _ in kinds]
        assert [status(a) for a in answers] == [200] * len(kinds)
        values = [first(a) for a in answers if b'"data":' in body(a)]
        assert values == [2.0, 4.0, 6.0, 8.0, 10.0, pytest.approx(2e30), 12.0]


def test_a_long_pipeline(way: Running) -> None:
    with way.connect() as connection:
        count = 2_000
        connection.raw.settimeout(30)
        sent = b"".join(infer(float(i)) for i in range(count))
        received: list[float] = []
        view = memoryview(sent)
        connection.raw.setblocking(True)
        while view:
            view = view[connection.raw.send(view[:100_000]) :]
        received = [first(connection.response()) for _ in range(count)]
        assert received == [2.0 * i for i in range(count)]


@pytest.mark.parametrize(
    "before",
    [b"", GET, infer(1.0), GET + infer(1.0), infer(1.0) + GET],
    ids=["nothing", "get", "infer", "get-infer", "infer-get"],
)
def test_a_target_that_no_parser_takes_is_answered_whatever_came_before(way: Running, before: bytes) -> None:
    with way.connect() as connection:
        connection.raw.sendall(before + b"GET http://h:/ HTTP/1.1\r\nHost: t\r\n\r\n")
        answers = [connection.response() for _ in range(before.count(b"Host: ") + 1)]
        assert [status(a) for a in answers] == [200] * (len(answers) - 1) + [400]
        assert connection.raw.recv(1) == b""


def test_a_request_may_arrive_in_any_pieces(way: Running) -> None:
    sent = infer(7.0) + GET + infer(8.0)
    with way.connect() as connection:
        for cut in (1, 2, 3, 5, 7, 11, 40, 64):
            for start in range(0, len(sent), cut * 9):
                connection.raw.sendall(sent[start : start + cut * 9])
                if cut < 4:
                    time.sleep(0.0002)
            assert first(connection.response()) == 14.0
            assert status(connection.response()) == 200
            assert first(connection.response()) == 16.0


def test_chunked_bodies_keep_the_connection_and_the_gate(way: Running) -> None:
    content = row(9.0)
    head = b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:10], content[10:11], content[11:])
    )
    with way.connect() as connection:
        connection.raw.sendall(head + chunks + b"0\r\n\r\n" + infer(1.0))
        assert first(connection.response()) == 18.0
        assert first(connection.response()) == 2.0
        connection.raw.sendall(
            head + chunks + b"0\r\nX-T: a\r\n\r\nGET /v2 HTTP/1.1\r\nHost: t\r\nX-A: b\r\n folded\r\n\r\n"
        )
        assert first(connection.response()) == 18.0
        assert status(connection.response()) == 400
        assert connection.closed()


def test_trailers_say_nothing_about_the_request(way: Running) -> None:
    head = b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    names = b"Content-Encoding: br\r\nX-Request-Timeout-Ms: now\r\nInference-Header-Content-Length: 0\r\n"
    names += b"Connection: close\r\n"
    with way.connect() as connection:
        connection.raw.sendall(head + b"%x\r\n%s\r\n0\r\n" % (len(row(9.0)), row(9.0)) + names + b"\r\n")
        assert first(connection.response()) == 18.0
        assert first(connection.ask(infer(1.0))) == 2.0
        assert status(connection.ask(b"GET /v2 HTTP/1.1\r\nHost: t\r\n\r\n")) == 200


def test_a_chunked_body_over_the_limit(way: Running) -> None:
    with way.connect() as connection:
        head = b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.raw.sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(80):
                connection.raw.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        assert status(connection.response()) == 413


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([b"zz\r\n"], 400),
        ([b"", b"1\r\n \r\n", b"zz\r\n"], 400),
        ([b"", b"200000\r\n"], 413),
    ],
)
def test_what_is_refused_while_it_arrives_is_counted_once(
    way: Running, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], code: int
) -> None:
    head = b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    counted: list[int] = []
    monkeypatch.setattr(way.environment, "count_code", counted.append)
    assert way.worker.plane is not None
    served = way.worker.plane.resolve("scaled", None)
    before = dict(served.stats.codes)
    with way.connect() as connection:
        for at, piece in enumerate(pieces):
            connection.raw.sendall(piece if at else head + piece)
            time.sleep(0.05)
        assert status(connection.response()) == code
    assert counted == [code]
    assert served.stats.codes == before


@pytest.mark.parametrize(
    "rest", [b"", b"Content-Length: 99\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"]
)
def test_a_client_that_is_gone_while_it_sends_is_counted_once(
    way: Running, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    counted: list[int] = []
    assert way.worker.plane is not None
    served = way.worker.plane.resolve("scaled", None)
    monkeypatch.setattr(way.environment, "count_code", counted.append)
    before = served.stats.codes.get(499, 0)
    with way.connect() as connection:
        connection.raw.sendall(b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\n" + rest)
        time.sleep(0.1)
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def gone() -> int:
        return counted.count(499) + served.stats.codes.get(499, 0) - before

    until(lambda: gone() > 0)
    time.sleep(0.1)
    assert (gone(), set(counted)) == (1, set(counted) & {499})


def test_a_large_body_over_the_limit_reads_its_413(way: Running) -> None:
    """The client sends all 200 MB before it reads; the answer must survive that."""
    with way.connect() as connection:
        size = 200_000_000
        connection.raw.sendall(
            b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size
        )
        answer = connection.response()
        assert status(answer) == 413
        assert b"connection: close" in answer
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.raw.sendall(b" " * 65536)


def test_head(way: Running) -> None:
    with way.connect() as connection:
        connection.raw.sendall(b"HEAD /v2/models/scaled HTTP/1.1\r\nHost: t\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += connection.raw.recv(4096)
        assert received.startswith(b"HTTP/1.1 200")
        assert b"content-length: " in received
        assert first(connection.ask(infer(1.0))) == 2.0


def test_head_and_body_leave_in_one_write(way: Running) -> None:
    """On a connection that is read at once, the whole answer is there with the first read."""
    with way.connect() as connection:
        for sent in (infer(1.0), GET, infer(1.0, "Connection: close")):
            connection.raw.sendall(sent)
            received = connection.raw.recv(1 << 16)
            assert int(received.partition(b"content-length: ")[2].partition(b"\r")[0]) == len(body(received))


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue \t"])
def test_100_continue(way: Running, expect: str) -> None:
    sent = infer(5.0, f"Expect: {expect}")
    head, content = sent.split(b"\r\n\r\n", 1)
    with way.connect() as connection:
        connection.raw.sendall(head + b"\r\n\r\n")
        assert connection.raw.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.raw.sendall(content)
        assert first(connection.response()) == 10.0


def test_http_1_0_has_no_100_continue(way: Running) -> None:
    sent = infer(5.0, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with way.connect() as connection:
        assert first(connection.ask(sent)) == 10.0


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compression_both_ways(both: SimpleNamespace, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    values = np.random.default_rng(0).random((200, 3)).tolist()
    tensor = {"name": "x", "shape": [200, 3], "datatype": "FP32", "data": values}
    plain = json.dumps({"inputs": [tensor]}).encode()
    for content, headers in (
        (plain, [f"Accept-Encoding: {encoding}"]),
        (
            pack(plain),
            [f"Content-Encoding: {encoding}", f"Accept-Encoding: {encoding};q=0.5, identity;q=0.1"],
        ),
    ):
        answers = []
        for way in (both.fast, both.ordinary):
            with way.connect() as connection:
                answers.append(connection.ask(post("/v2/models/scaled/infer", content, *headers)))
        assert answers[0] == answers[1]
        assert b"\r\ncontent-encoding: %s\r\n" % encoding.encode() in answers[0]
        data = zlib.decompress(body(answers[0]), 47)
        np.testing.assert_array_equal(
            np.float32(json.loads(data)["outputs"][0]["data"]), (np.float32(values) * 2).ravel()
        )


def test_a_decompression_bomb_is_refused_cheaply(way: Running) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    with way.connect() as connection:
        answer = connection.ask(post("/v2/models/scaled/infer", bomb, "Content-Encoding: gzip"))
        assert status(answer) == 413


@pytest.mark.parametrize("part", [b"GET /v2 HT", infer(1.0)[:-5], GET[:-2] + b"X-A: b\r\n"])
def test_a_client_that_stops_sending_gets_a_timeout(way: Running, part: bytes) -> None:
    with way.connect() as connection:
        connection.raw.sendall(part)
        answer = connection.response()
        assert status(answer) == 408
        assert connection.closed()


def test_a_byte_now_and_then_does_not_keep_a_request_alive(way: Running) -> None:
    with way.connect() as connection:
        with contextlib.suppress(OSError):
            for byte in infer(1.0):
                connection.raw.sendall(bytes([byte]))
                time.sleep(0.2)
        with contextlib.suppress(OSError):
            assert status(connection.response()) == 408


def test_a_truncated_body_is_answered(way: Running) -> None:
    with way.connect() as connection:
        connection.raw.sendall(infer(1.0)[:-5])
        connection.raw.shutdown(socket.SHUT_WR)
        assert status(connection.response()) == 400
        assert connection.closed()


@pytest.mark.parametrize("name", ["upgrade", "Upgrade", "UPGRADE", "uPGRade"])
def test_upgrade_is_ignored_and_the_body_kept(way: Running, name: str) -> None:
    h2c = ["Connection: Upgrade, HTTP2-Settings", f"{name}: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]
    with way.connect() as connection:
        for _ in range(2):
            assert first(connection.ask(infer(4.0, *h2c))) == 8.0
        head, content = infer(4.0, *h2c).split(b"\r\n\r\n", 1)
        connection.raw.sendall(head + b"\r\n\r\n")
        time.sleep(0.05)
        connection.raw.sendall(content)
        assert first(connection.response()) == 8.0
        assert first(connection.ask(infer(1.0))) == 2.0


def test_clients_that_vanish_harm_nobody(way: Running) -> None:
    good = way.connect()
    sent = infer(2.0)
    for cut in [*range(1, len(sent), 17), len(sent)]:
        connection = way.connect()
        connection.raw.sendall(sent[:cut])
        if cut % 2:
            connection.raw.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
        connection.raw.close()
        assert first(good.ask(infer(float(cut)))) == 2.0 * cut
    good.raw.close()
    assert way.worker.server is not None
    state = way.worker.server.server_state
    until(lambda: not state.connections)


def test_many_clients_get_their_own_answers(way: Running) -> None:
    connections = [way.connect() for _ in range(64)]
    for turn in range(20):
        for i, connection in enumerate(connections):
            connection.raw.sendall(infer(float(1000 * turn + i)))
        for i, connection in enumerate(connections):
            assert first(connection.response()) == 2.0 * (1000 * turn + i)
    for connection in connections:
        connection.raw.close()


def test_bad_neighbours_do_not_fail_good_requests(both: SimpleNamespace) -> None:
    """300 good requests sent at the same moments as 20 of the wrong width and rows that the model cannot run."""
    bad = post("/v2/models/scaled/infer", row(1.0).replace(b"[1, 3]", b"[1, 4]"))
    poison = {"inputs": [{"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [77]}]}
    pick = {"inputs": [{"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [2]}]}
    connections = [both.fast.connect() for _ in range(40)]
    for _ in range(8):
        kinds = []
        for i, connection in enumerate(connections):
            if i % 10 == 3:
                sent, want = bad, 400
            elif i % 10 == 5:
                sent, want = post("/v2/models/picky/infer", json.dumps(poison).encode()), 500
            elif i % 2:
                sent, want = post("/v2/models/picky/infer", json.dumps(pick).encode()), 200
            else:
                sent, want = infer(float(i)), 200
            kinds.append(want)
            connection.raw.sendall(sent)
        assert [status(connection.response()) for connection in connections] == kinds
    for connection in connections:
        connection.raw.close()


def test_deadlines_come_from_the_parameter_and_from_the_header(way: Running) -> None:
    with way.connect() as connection:
        assert status(connection.ask(infer(1.0, parameters={"timeout": 10_000_000}))) == 200
        assert status(connection.ask(infer(1.0, "X-Request-Timeout-Ms: 10000"))) == 200
        late = connection.ask(infer(1.0, parameters={"timeout": 1}))
        assert status(late) == 504
        assert "deadline" in json.loads(body(late))["error"]


def test_a_model_that_drops_rows_answers_what_it_gives(way: Running) -> None:
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]}
    with way.connect() as connection:
        answer = connection.ask(post("/v2/models/unique/infer", json.dumps({"inputs": [tensor]}).encode()))
        assert status(answer) == 200
        assert json.loads(body(answer))["outputs"][0]["shape"] == [1, 3]


def test_a_new_connection_after_all_of_this(way: Running) -> None:
    connection: Connection
    with way.connect() as connection:
        assert first(connection.ask(infer(1.5))) == 3.0
