"""The request-head scan beside httptools, which uvicorn uses and which the scan spares the fast path.

Run with `pytest benchmarks/core/bench_head.py --benchmark-only`.
"""

from typing import Any

import httptools
import pytest

from fastserve_core.wire.head import FAST, ChunkScanner, RequestHead


def request(*headers: bytes) -> bytes:
    """A head as one of the usual clients sends it."""
    return b"\r\n".join(
        [b"POST /v2/models/flights/infer HTTP/1.1", b"Host: 127.0.0.1:8000", *headers, b"", b""]
    )


HEADS = {
    "wrk": request(b"Content-Length: 312", b"Content-Type: application/json"),
    "requests": request(
        b"User-Agent: python-requests/2.32.3",
        b"Accept-Encoding: gzip, deflate",
        b"Accept: */*",
        b"Connection: keep-alive",
        b"Content-Length: 312",
        b"Content-Type: application/json",
    ),
    "tritonclient": request(
        b"Connection: keep-alive",
        b"User-Agent: geventhttpclient-2.3.1",
        b"Inference-Header-Content-Length: 180",
        b"Content-Length: 312",
    ),
}


class Callbacks:
    """The least that uvicorn's protocol does with a head."""

    def on_message_begin(self) -> None:
        """Start afresh."""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        """Keep the target."""
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header as ASGI wants it."""
        self.headers.append((name.lower(), value))


@pytest.mark.parametrize("client", HEADS)
@pytest.mark.benchmark(group="head")
def test_scan(benchmark: Any, client: str) -> None:
    head, data = RequestHead(), HEADS[client]
    assert benchmark.pedantic(head.scan, (data,), iterations=10_000, rounds=20) == FAST


@pytest.mark.parametrize("client", HEADS)
@pytest.mark.benchmark(group="head")
def test_scan_and_read_what_the_fast_path_needs(benchmark: Any, client: str) -> None:
    head, data = RequestHead(), HEADS[client]

    def run() -> tuple[bytes, int, int, int]:
        head.scan(data)
        return head.target, head.head_length, head.content_length, head.json_length

    benchmark.pedantic(run, iterations=10_000, rounds=20)


@pytest.mark.parametrize("client", HEADS)
@pytest.mark.benchmark(group="head")
def test_httptools(benchmark: Any, client: str) -> None:
    data = HEADS[client] + bytes(312)
    parser = httptools.HttpRequestParser(Callbacks())
    benchmark.pedantic(parser.feed_data, (data,), iterations=10_000, rounds=20)


@pytest.mark.benchmark(group="chunks")
def test_chunk_scan(benchmark: Any) -> None:
    data = (b"1000\r\n" + bytes(4096) + b"\r\n") * 64 + b"0\r\n\r\n"
    scanner = ChunkScanner()

    def run() -> int:
        scanner.reset()
        return scanner.feed(data, 0)

    assert benchmark(run) == len(data)
