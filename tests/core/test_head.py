"""The request-head scan: what is refused, what the fast path gets, and agreement with the plain twin."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_core.wire.head import BAD, FAST, INCOMPLETE, ORDINARY, RequestHead
from tests.core.hostile_heads import PLAIN, REFUSED, get, post
from tests.oracle.head_twin import scan_head

FIELDS = (
    "method",
    "target",
    "head_length",
    "content_length",
    "json_length",
    "timeout_us",
    "chunked",
    "keep_alive",
    "http_minor",
    "accept_encoding",
)


def scanned(data: bytes) -> RequestHead:
    head = RequestHead()
    head.scan(data)
    return head


def test_a_plain_inference_request_is_fast() -> None:
    head = RequestHead()
    assert head.scan(PLAIN + b'{"inputs":[]') == FAST
    assert (head.method, head.target) == (b"POST", b"/v2/models/flights/infer")
    assert (head.head_length, head.content_length, head.json_length) == (len(PLAIN), 12, -1)
    assert (head.timeout_us, head.chunked, head.keep_alive, head.http_minor) == (-1, False, True, 1)
    assert (head.accept_encoding, head.status, head.reason) == (None, 0, "")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_read_from_start(kind: type[bytes]) -> None:
    head = RequestHead()
    assert head.scan(kind(b"xx" + PLAIN), 2) == FAST
    assert head.head_length == len(PLAIN)


@pytest.mark.parametrize("start", [-1, len(PLAIN) + 1])
def test_a_start_outside_of_the_data_is_an_error(start: int) -> None:
    with pytest.raises(ValueError, match="start"):
        RequestHead().scan(PLAIN, start)


def test_what_has_no_contiguous_bytes_is_an_error() -> None:
    with pytest.raises(TypeError):
        RequestHead().scan("POST")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        RequestHead().scan(memoryview(PLAIN)[::2])


def test_what_was_found_outlives_the_data() -> None:
    data = bytearray(post(b"Content-Length: 1", b"Accept-Encoding: gzip;q=0.5, deflate "))
    head = RequestHead()
    assert head.scan(data) == FAST
    data[:] = bytes(len(data))
    assert head.target == b"/v2/models/m/infer"
    assert head.accept_encoding == b"gzip;q=0.5, deflate"


def test_a_refused_head_shows_no_accept_encoding() -> None:
    head = scanned(get(b"Accept-Encoding: gzip;q=0.5, deflate", b"X: \x01"))
    assert (head.status, head.accept_encoding) == (400, None)


def test_one_object_scans_pipelined_requests() -> None:
    data = post(b"Content-Length: 2", b"X-Request-Timeout-Ms: 7") + b"{}" + PLAIN
    head = RequestHead()
    assert head.scan(data) == FAST
    assert head.timeout_us == 7000
    assert head.scan(data, head.head_length + head.content_length) == FAST
    assert (head.timeout_us, head.content_length) == (-1, 12)


FAST_HEADERS = [
    ((), -1, -1),
    ((b"Connection: keep-alive",), -1, -1),
    ((b"connection:Keep-Alive",), -1, -1),
    ((b"Connection: close",), -1, -1),
    ((b"Inference-Header-Content-Length: 0",), 0, -1),
    ((b"INFERENCE-HEADER-CONTENT-LENGTH:\t60 \t",), 60, -1),
    ((b"X-Request-Timeout-Ms: 1",), -1, 1000),
    ((b"x-request-timeout-ms: 1000000000",), -1, 10**12),
    ((b"Accept-Encoding: gzip", b"User-Agent: \xc3\xa9", b"X-Empty:"), -1, -1),
]


@pytest.mark.parametrize(("headers", "json_length", "timeout_us"), FAST_HEADERS)
def test_headers_the_fast_path_takes(headers: tuple[bytes, ...], json_length: int, timeout_us: int) -> None:
    head = RequestHead()
    assert head.scan(post(b"Content-Length: 60", *headers)) == FAST
    assert (head.json_length, head.timeout_us) == (json_length, timeout_us)


ORDINARY_HEADERS = [
    (b"Expect: 100-continue",),
    (b"Upgrade: h2c",),
    (b"Content-Encoding: gzip",),
    (b"Connection: keep-alive, close",),
    (b"Connection: close", b"Connection: close"),
    (b"Connection: keep-alive", b"Connection: keep-alive"),
    (b"Connection:",),
    (b"Inference-Header-Content-Length: 61",),
    (b"Inference-Header-Content-Length: -1",),
    (b"Inference-Header-Content-Length:",),
    (b"Inference-Header-Content-Length: 99999999999999999999",),
    (b"Inference-Header-Content-Length: 1", b"Inference-Header-Content-Length: 1"),
    (b"X-Request-Timeout-Ms: 0",),
    (b"X-Request-Timeout-Ms: 1000000001",),
    (b"X-Request-Timeout-Ms: 1.5",),
    (b"X-Request-Timeout-Ms: 5", b"X-Request-Timeout-Ms: 5"),
    (b"Accept-Encoding: gzip", b"Accept-Encoding: deflate"),
]


@pytest.mark.parametrize("headers", ORDINARY_HEADERS)
def test_headers_the_fast_path_leaves(headers: tuple[bytes, ...]) -> None:
    assert RequestHead().scan(post(b"Content-Length: 60", *headers)) == ORDINARY


@pytest.mark.parametrize(
    "data",
    [
        post(),
        post(b"Transfer-Encoding: chunked"),
        get(),
        *(
            post(b"Content-Length: 1", target=b"/v2/models" + rest)
            for rest in (b"/infer", b"//infer", b"/m/infer/")
        ),
        *(
            post(b"Content-Length: 1", target=b"/v2/models/m%s/infer" % mark)
            for mark in (b"?", b"%41", b"#", b"\xe9")
        ),
        PLAIN.replace(b"POST", b"PUT"),
        PLAIN.replace(b"POST", b"post"),
    ],
)
def test_other_requests_are_ordinary(data: bytes) -> None:
    assert RequestHead().scan(data) == ORDINARY


@pytest.mark.parametrize(
    ("minor", "headers", "keep_alive"),
    [
        (1, (), True),
        (1, (b"Connection: foo ,\tClose",), False),
        (1, (b"Connection: close\t , foo",), False),
        (1, (b"Connection: closed",), True),
        (1, (b"Connection: closs, glose",), True),
        (0, (), False),
        (0, (b"Connection: Keep-Alive",), False),
    ],
)
def test_keep_alive(minor: int, headers: tuple[bytes, ...], keep_alive: bool) -> None:
    head = scanned(get(*headers).replace(b"HTTP/1.1", b"HTTP/1.%d" % minor))
    assert (head.http_minor, head.keep_alive) == (minor, keep_alive)


@pytest.mark.parametrize(("data", "status", "reason"), REFUSED)
def test_hostile_heads_are_refused_with_a_reason(data: bytes, status: int, reason: str) -> None:
    head = RequestHead()
    assert head.scan(data) == BAD
    assert head.status == status
    assert reason in head.reason
    assert scan_head(data).status == status


@pytest.mark.parametrize(("data", "status", "reason"), REFUSED)
def test_a_refusal_does_not_depend_on_how_the_bytes_arrive(data: bytes, status: int, reason: str) -> None:
    data += b"\r\n"
    steps = [*range(1, min(len(data), 400)), len(data)]
    head, verdict = RequestHead(), INCOMPLETE
    for stop in steps:
        fresh = RequestHead()
        assert fresh.scan(data[:stop]) in (INCOMPLETE, BAD)
        assert fresh.status in (0, status)
        if verdict == INCOMPLETE:
            verdict = head.scan(data[:stop])
    assert (verdict, head.status) == (BAD, status)
    assert reason in head.reason


def test_limits_are_met_exactly() -> None:
    room = 65536 - len(get(b"X: "))
    assert RequestHead().scan(get(b"X: " + b"a" * room)) == ORDINARY
    assert RequestHead().scan(get(b"X: " + b"a" * room + b"a")) == BAD
    assert RequestHead().scan(get(*[b"X: 1"] * 255)) == ORDINARY
    head = scanned(post(b"Content-Length: 9223372036854775807"))
    assert head.content_length == 2**63 - 1
    head = scanned(post(b"Content-Length: 00000000000000000000000007"))
    assert head.content_length == 7


def test_two_empty_lines_before_a_request_are_passed_over() -> None:
    head = RequestHead()
    assert head.scan(b"\r\n\r\n" + PLAIN) == FAST
    assert head.head_length == len(PLAIN) + 4


def test_a_head_that_comes_byte_by_byte() -> None:
    data = b"\r\n" + get(b"X: " + b"a" * 300, b"Accept-Encoding: gzip")
    head, buffer = RequestHead(), bytearray()
    for byte in data[:-1]:
        buffer.append(byte)
        assert head.scan(buffer) == INCOMPLETE
    assert head.scan(data) == ORDINARY
    assert (head.head_length, head.accept_encoding) == (len(data), b"gzip")


def test_reset_forgets_an_unfinished_head() -> None:
    head = RequestHead()
    assert head.scan(b"GET / HTTP/1.1\r\nContent-Length: 5\r\n") == INCOMPLETE
    head.reset()
    assert head.scan(PLAIN) == FAST
    assert head.content_length == 12
    head.reset()
    assert (head.method, head.target, head.content_length) == (b"", b"", -1)


def test_less_data_than_before_starts_again() -> None:
    head = RequestHead()
    assert head.scan(b"GET / HTTP/1.1\r\n" + b"X" * 500) == INCOMPLETE
    assert head.scan(PLAIN) == FAST


# -- agreement with the twin --------------------------------------------------------------------------------

PIECES = [
    *(b"%c" % byte for byte in b"\r\n \t\x00\x01\x7f:;,/?%#\xe9aZ0"),
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b" HTTP/1.0",
    b" HTTP/2.0",
    b"Host: b\r\n",
    b"Content-Length: 7\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Inference-Header-Content-Length: 5\r\n",
    b"X-Request-Timeout-Ms: 250\r\n",
    b"Accept-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
]
SEEDS = [
    PLAIN,
    get(b"Accept: */*", b"Connection: keep-alive"),
    post(b"Content-Length: 60", b"Inference-Header-Content-Length: 50", b"X-Request-Timeout-Ms: 100"),
    post(b"Transfer-Encoding: chunked", b"Accept-Encoding: deflate, gzip"),
    b"\r\nGET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from([b"", *PIECES])) + data[at + cut :]
    lines = data.split(b"\r\n")
    if draw(st.booleans()) and len(lines) > 3:
        at = draw(st.integers(1, len(lines) - 2))
        lines.insert(at, draw(st.sampled_from(PIECES)).rstrip(b"\r\n"))
    return b"\r\n".join(lines)


def agree(data: bytes) -> int:
    head = RequestHead()
    verdict = head.scan(data)
    twin = scan_head(data)
    assert (verdict, head.status) == (twin.verdict, twin.status)
    if verdict in (FAST, ORDINARY):
        assert [getattr(head, field) for field in FIELDS] == [getattr(twin, field) for field in FIELDS]
    return verdict


@given(mutated())
def test_mutated_heads_agree_with_the_twin(data: bytes) -> None:
    agree(data)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_agree_with_the_twin(data: bytes) -> None:
    agree(data)
    agree(b"GET / HTTP/1.1\r\n" + data)
    agree(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + data + b"\r\n\r\n")


@given(mutated(), st.randoms(use_true_random=False))
def test_a_verdict_does_not_depend_on_how_the_bytes_arrive(data: bytes, chance: random.Random) -> None:
    data += b"\r\n"
    whole = RequestHead()
    expected = whole.scan(data)
    head, verdict, at = RequestHead(), INCOMPLETE, 0
    while verdict == INCOMPLETE and at < len(data):
        at += chance.randint(1, 9)
        assert RequestHead().scan(data[:at]) in (INCOMPLETE, expected)
        verdict = head.scan(data[:at])
    assert (verdict, head.status, head.reason) == (expected, whole.status, whole.reason)
    if verdict > 0:
        assert [getattr(head, field) for field in FIELDS] == [getattr(whole, field) for field in FIELDS]
