"""One connection to the control plane: whatever comes back on it, the next snapshot has one again."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.monitoring import transport
from fastserve.monitoring.transport import Link

BODY = b"the body"
COUNTED = b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"number":7}'
SILENCE = b"nothing, until the client closes"


class Server(socketserver.ThreadingUnixStreamServer):
    """Gives one answer after the other, whichever connection asks."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        super().__init__(str(path), Handler)


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        data = b""
        while chunk := self.request.recv(2**16):
            data += chunk
            if not data.endswith(BODY):
                continue
            self.server.requests.append(data)
            data, answer = b"", self.server.answers.pop(0)
            if not answer:
                return
            if answer != SILENCE:
                self.request.sendall(answer)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def server(path: Path) -> Iterator[Server]:
    with Server(path) as one:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        yield one
        one.shutdown()


def answer(body: bytes, head: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return head + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("first", "got"),
    [
        (b"", "closed connection without response"),
        (SILENCE, "timed out"),
        (b"220 mail.example ESMTP\r\n\r\n", "220 mail.example ESMTP"),
        (answer(b"<html>", b"HTTP/1.1 502 Bad Gateway"), (502, {})),
        (answer(b"[]"), (200, {})),
        (answer(b"{}", b"HTTP/1.1 503 Busy\r\nconnection: close"), (503, {})),
        (answer(b"x" * 3_000), (200, {})),
    ],
)
def test_after_any_answer_the_next_one_is_read(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes, got: Any
) -> None:
    monkeypatch.setattr(transport, "_TIMEOUT_S", 1.0)
    monkeypatch.setattr(transport, "_MAX_ANSWER_BYTES", 1_000)
    server.answers = [first, COUNTED]
    link = Link(path, token="secret")
    if isinstance(got, str):
        with pytest.raises(OSError, match=got):
            link.post(BODY)
    else:
        assert link.post(BODY) == got
    assert link.post(BODY) == (200, {"number": 7})
    assert all(b"\r\nauthorization: Bearer secret\r\n" in one for one in server.requests)
    link.close()


def test_a_slow_line_has_as_long_as_it_needs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece of the body takes half a second, but all of it takes longer."""
    monkeypatch.setattr(transport, "_TIMEOUT_S", 0.5)
    body = bytes(2**20)

    def serve(listener: socket.socket) -> None:
        taken, _ = listener.accept()
        with taken:
            got = b""
            while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < len(body):
                got += taken.recv(2**16)
                time.sleep(0.08)
            taken.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        link = Link(path)
        assert link.post(body) == (200, {})
        link.close()
        server.join()


def test_an_address_that_cannot_be_one_is_said_like_any_other_trouble() -> None:
    link = Link(None, "http://a..b:8002")
    with pytest.raises(OSError, match="label"):
        link.post(b"")
