"""The API of a real process: who may send, what is refused and how, what is told."""

import asyncio
import contextlib
import gzip
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from fastserve.controlplane import app
from fastserve.controlplane.checking import HISTOGRAMS
from fastserve.controlplane.database import open_database
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.reporting import CountWindows, Report
from fastserve.controlplane.service import Control
from fastserve.errors import InvalidRequest
from fastserve.monitoring.snapshot import (
    FORMAT,
    MAX_HEAD_BYTES,
    MAX_SNAPSHOT_BYTES,
    HistogramDelta,
    Snapshot,
    VersionNow,
    read_snapshot,
)
from fastserve.registry.state import ALIASES_FILE
from tests.controlplane.processes import TOKEN, ControlProcess, control_process
from tests.controlplane.snapshots import delta, normal, profile, snapshot
from tests.waiting import until

REFERENCE = profile()
PATH = "/v2/control/snapshots"
BEARER = {"authorization": f"Bearer {TOKEN}"}
NOW = [
    VersionNow(model="m", version=3, state="READY", reason="r" * 2_000, profile=REFERENCE.digest())
]  # which may say as much


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with control_process(tmp_path_factory.mktemp("app")) as one:
        yield one


def sent_now(number: int, rows: int, incarnation: int = 1, **more: Any) -> Snapshot:
    to_ms = time.time_ns() // 1_000_000
    counted = delta(REFERENCE, normal(rows), "m", 3)
    return snapshot(number, [counted], incarnation=incarnation, to_ms=to_ms, now=NOW, **more)


def test_a_worker_is_heard_and_shown(control: ControlProcess) -> None:
    link = control.link()
    status, answer = link.post(sent_now(1, 50).to_bytes())
    assert (status, answer) == (200, {"number": 1, "wanted": [REFERENCE.digest()]})
    with_profile = sent_now(1, 50, profiles=(REFERENCE,)).to_bytes()
    for _ in range(2):
        assert link.post(with_profile) == (200, {"number": 1, "wanted": []})
    link.close()
    models = control.request("GET", "/v2/control/models")
    assert models.header("content-type") == "application/json"
    (listed,) = models.json()["models"]
    assert listed == {
        "model": "m",
        "version": 3,
        "watched_rows": 50,
        "present": True,
        "profile": REFERENCE.digest(),
        "unwatched": "",
    }
    page = control.request("GET", "/metrics")
    assert page.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert b'fastserve_requests_total{model="m",version="3",code="200"} 50' in page.body

    (control.registry / "m" / "3").mkdir(parents=True)
    (control.registry / "m" / "3" / "model.onnx").touch()
    (control.registry / "m" / ALIASES_FILE).write_text('{"champion": 3}')
    for query in ("", "?version=3", "?alias=champion&since=7d", "?since=90s"):
        answer_ = control.request("GET", f"/v2/control/models/m/report{query}")
        assert answer_.header("content-type") == "application/json"
        report = Report.model_validate_json(answer_.body)
        assert (report.version, report.rows, report.aliases) == (3, 50, ("champion",)), query
    by_count = CountWindows.model_validate_json(control.request("GET", "/v2/control/models/m/windows").body)
    assert (by_count.version, [one.rows for one in by_count.windows]) == (3, [50])
    # The comparison for /metrics follows by itself.
    until(lambda: b"fastserve_drift_distance{" in control.request("GET", "/metrics").body)


def test_metrics_are_compressed_for_who_asks(control: ControlProcess) -> None:
    packed = control.request("GET", "/metrics", headers={"accept-encoding": "gzip"})
    assert packed.header("content-encoding") == "gzip" and packed.header("vary") == "accept-encoding"
    page = gzip.decompress(packed.body)
    assert b"fastserve_workers" in page and len(packed.body) < len(page) / 2
    for answer in (packed, control.request("GET", "/metrics")):
        assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("content-encoding") is None


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8002", "a.localhost", "127.0.0.1:1", "192.168.0.7", "[::1]:8002", ""]
)
def test_its_own_names(control: ControlProcess, host: str) -> None:
    assert control.request("GET", "/v2/control/models", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8002", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost",
     "localhost@evil.example", "[::1].evil.example", "e\xedl.example"],
)  # fmt: skip
def test_a_name_that_stands_for_this_machine_reads_nothing(control: ControlProcess, host: str) -> None:
    """As a web page asks whose name has come to stand for 127.0.0.1."""
    for path in ("/metrics", "/v2/control/models/m/report", "/elsewhere"):
        answer = control.request("GET", path, headers={"host": host})
        assert answer.status == 403 and "localhost and IP addresses only" in answer.error
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", control.port)) as connection:
        connection.request("HEAD", "/metrics", headers={"host": host})
        assert connection.getresponse().status == 403
    answer = control.request("POST", PATH, b"x" * 100, {**BEARER, "host": host})
    assert (answer.status, "snapshot" in answer.error) == (400, True)


def test_where_others_can_reach_it_it_has_any_name(tmp_path: Path) -> None:
    with control_process(tmp_path, address="0.0.0.0") as one:
        assert one.request("GET", "/metrics", headers={"host": "control.example"}).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/control/models/none/report", 404),
        ("/v2/control/models/m/report?version=99", 404),
        ("/v2/control/models/m/report?version=x", 400),
        ("/v2/control/models/m/report?version=99999999999999999999", 400),
        ("/v2/control/models/m/report?since=ever", 400),
        ("/v2/control/models/m/report?alias=nobody", 404),
        ("/v2/control/models/m/report?alias=a&version=1", 400),
        ("/v2/control/models/none/windows", 404),
        ("/v2/control/models/m/windows?limit=0", 400),
        ("/v2/control/models/m/windows?limit=1001", 400),
        ("/v2/control/models/m/windows?limit=-1", 400),
        ("/v2/control/models/m/windows?limit=0000001001", 400),
        (f"/v2/control/models/m/windows?limit={'9' * 5_000}", 400),
        ("/v2/control/models/..%2F..%2Fetc/report", 404),
        ("/v2/control/models/%00/report?version=1", 404),
        ("/v2/control/snapshots", 405),
        ("/elsewhere", 404),
        ("/metrics/", 404),
        ("/v2/control/models/", 404),
    ],
)
def test_what_is_asked_wrongly(control: ControlProcess, path: str, status: int) -> None:
    answer = control.request("GET", path)
    assert (answer.status, list(answer.json())) == (status, ["error"])
    assert answer.header("content-type") == "application/json"


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer no"}, {"authorization": TOKEN}, {"authorization": f"Basic {TOKEN}"}],
)
def test_snapshots_over_tcp_need_the_token(control: ControlProcess, headers: dict[str, str]) -> None:
    # The body never ends: the answer does not wait for it.
    connection = http.client.HTTPConnection("127.0.0.1", control.port, timeout=10)
    connection.putrequest("POST", PATH)
    for name, value in {**headers, "content-length": "100000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_snapshots_over_tcp_with_the_token(control: ControlProcess) -> None:
    body = sent_now(1, 5, 77, worker=7, profiles=(REFERENCE,)).to_bytes()
    assert control.request("POST", PATH, body, BEARER).json() == {"number": 1, "wanted": []}


def _headed(head: Any, rest: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<4sI", b"FSSN", len(text)) + text + rest


def _spoilt(**changes: Any) -> bytes:
    body = snapshot(1, [], incarnation=99).to_bytes()
    head = json.loads(body[8:])
    return _headed(head | changes)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 400, "body"),
        (b"FSSN", 400, "body"),
        (b"FSSX" + _spoilt()[4:], 400, "body"),
        (b"FSSN\xff\xff\xff\xff{}", 400, "body"),
        (_headed(b"{"), 400, "head"),
        (_headed([]), 400, "head"),
        (_headed({"format": FORMAT}), 400, "head"),
        (_headed(b"[" * 100_000), 400, "head"),
        (_headed(b'{"format":' + b"[" * 1_000 + b"]" * 1_000 + b"}"), 400, "head"),
        (_spoilt(format=1, release="0.0.9"), 409, "format 1 (fastserve 0.0.9)"),
        (_spoilt(format=FORMAT + 1, release="9.9.9"), 409, f"format {FORMAT + 1} (fastserve 9.9.9)"),
        (_spoilt(number=0), 400, "number"),
        (_spoilt(number=2**63), 400, "number"),
        (_spoilt(worker=2**63), 400, "worker"),
        (_spoilt(worker=-1), 400, "worker"),
        (_spoilt(incarnation="x"), 400, "incarnation"),
        (_spoilt(host="a\nb"), 400, "host"),
        (_spoilt(more=1), 400, "more"),
        (_spoilt(deltas=[1]), 400, "head"),
        (_spoilt(profile_bytes={"0" * 64: 10}), 400, "state_bytes"),
        (_spoilt(profile_bytes={"0" * 64: -1}), 400, "state_bytes"),
        (_spoilt(profile_bytes={"0" * 64: 10, "1" * 64: -10}), 400, "state_bytes"),
        (_spoilt(profile_bytes={"0" * 64: False}), 400, "state_bytes"),
    ],
)
def test_hostile_bodies(control: ControlProcess, body: bytes, status: int, word: str) -> None:
    answer = control.request("POST", PATH, body, BEARER)
    assert answer.status == status
    assert word in answer.error
    assert control.request("GET", "/v2/control/health").status == 200


def test_a_body_that_is_too_large_is_not_read(control: ControlProcess) -> None:
    with socket.create_connection(("127.0.0.1", control.port), timeout=10) as raw:
        length = MAX_SNAPSHOT_BYTES + 1
        head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {length}\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_head_is_bounded_and_has_room_for_what_a_worker_says() -> None:
    spread = HistogramDelta(buckets={bucket: 10_000 + bucket for bucket in range(60, 120)}, total=2**40)
    busy = delta(REFERENCE, normal(1))
    busy.histograms = dict.fromkeys(HISTOGRAMS, spread)
    one, two = (len(snapshot(1, [busy] * count, now=NOW * count).to_bytes()) for count in (1, 2))
    head_bytes = two - one - sum(map(len, busy.states)) - len(NOW[0].reason)
    assert 5_000 * head_bytes < MAX_HEAD_BYTES

    size = MAX_HEAD_BYTES + 1
    with pytest.raises(InvalidRequest, match=f"head has {size} bytes, over {MAX_HEAD_BYTES}"):
        read_snapshot(struct.pack("<4sI", b"FSSN", size) + bytes(size))


def posted(
    control: Any, receive: Callable[[], Awaitable[Any]], token: str | None = None, **headers: str
) -> tuple[dict[str, Any], bytes]:
    """Head and body of the answer to a snapshot, without a server."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": lines, "query_string": b""}
    asyncio.run(app.create_app(control, token)(scope, receive, send))
    return sent[0], sent[1]["body"]


def test_a_body_that_is_late_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_PIECE_S", 0.01)
    held: list[int] = []

    def room(size_bytes: int) -> contextlib.nullcontext[None]:
        held.append(size_bytes)
        return contextlib.nullcontext()

    control = SimpleNamespace(intake=SimpleNamespace(room=room))
    for headers in ({}, {"content_length": "100"}, {"content_length": "100", "content_encoding": "gzip"}):
        head, body = posted(control, lambda: asyncio.sleep(30), **headers)
        assert head["status"] == 408 and b"no more of the body arrived within" in body
    assert held == [MAX_SNAPSHOT_BYTES, 100, MAX_SNAPSHOT_BYTES], "what is compressed may become as large"


def test_where_no_token_is_set_nobody_has_it() -> None:
    for headers in ({}, {"authorization": "Bearer "}):
        head, _ = posted(SimpleNamespace(), lambda: asyncio.sleep(30), "", **headers)
        assert head["status"] == 401


def test_nothing_is_taken_in_before_the_tables_are_made(tmp_path: Path) -> None:
    """It would look like a database that was taken away, and be told so."""
    control = Control(ControlOptions(), tmp_path, open_database(f"sqlite:///{tmp_path}/a.db"))

    async def receive() -> Any:
        return {"type": "http.request", "body": sent_now(1, 5).to_bytes()}

    head, body = posted(control, receive)
    assert head["status"] == 503 and (b"retry-after", b"1") in head["headers"]
    assert b"it has not been opened yet" in body
    control.close()


def test_a_body_has_as_long_as_its_pieces_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them takes a second, but all of them do."""
    monkeypatch.setattr(app, "_PIECE_S", 1.0)

    async def receive() -> Any:
        await asyncio.sleep(0.1)
        pieces.append(b"-")
        return {"type": "http.request", "body": b"-", "more_body": len(pieces) < 12}

    pieces: list[bytes] = []
    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(InvalidRequest):
        asyncio.run(app._read(request))
    assert len(pieces) == 12


def test_a_large_snapshot_is_parsed_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scrapes meanwhile would wait for it."""
    monkeypatch.setattr(app, "_PARSE_HERE_BYTES", 10)
    monkeypatch.setattr(app, "read_snapshot", lambda _: threading.current_thread())

    def parsed_in(size: int) -> Any:
        message = {"type": "http.request", "body": b"x" * size}
        request = Request({"type": "http", "headers": []}, lambda: asyncio.sleep(0, message))
        return asyncio.run(app._read(request))

    assert parsed_in(10) is threading.main_thread() is not parsed_in(11)
