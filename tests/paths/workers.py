"""Two real workers over one registry, one with the fast path and one without, so that the same bytes go down both ways."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.app.listening import bind
from fastserve.app.worker import Worker
from fastserve.config import Config
from fastserve.frontends.http.environment import Environment
from tests.waiting import until


@dataclass
class Running:
    """One worker in a thread of this process."""

    worker: Worker
    port: int

    @property
    def environment(self) -> Environment:
        assert self.worker.environment is not None
        return self.worker.environment

    @property
    def fast_requests(self) -> int:
        return self.environment.shared.fast_requests

    def connect(self) -> "Connection":
        return Connection(self.port)


@contextlib.contextmanager
def worker(registry: Path, **settings: Any) -> Iterator[Running]:
    """Run a worker in a thread until the block ends."""
    config = Config.model_validate({"registry": registry, **settings})
    (listener,) = bind("127.0.0.1", 0, 128, 1)
    running = Running(Worker(config, 1), listener.getsockname()[1])
    thread = threading.Thread(target=running.worker.run, args=(listener,))
    thread.start()
    try:
        until(lambda: is_ready(running))
        yield running
    finally:
        assert running.worker.server is not None
        running.worker.server.stop()
        thread.join(40)
        assert not thread.is_alive()


def is_ready(running: Running) -> bool:
    with contextlib.suppress(OSError, AssertionError), running.connect() as connection:
        return status(connection.ask(b"GET /v2/health/ready HTTP/1.1\r\nHost: t\r\n\r\n")) == 200
    return False


class Connection:
    """A raw HTTP connection that reads one response at a time."""

    def __init__(self, port: int) -> None:
        self.raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def ask(self, request: bytes) -> bytes:
        """Send one request, return its whole response without the date."""
        self.raw.sendall(request)
        return self.response()

    def response(self) -> bytes:
        """The next response, without its date header; all that came when the server closed."""
        data = self._left
        while b"\r\n\r\n" not in data:
            data = self._more(data)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        assert length is not None, head
        while len(body) < int(length[1]):
            body = self._more(body)
        self._left = body[int(length[1]) :]
        head = re.sub(rb"\r\ndate: [^\r]*", b"", head)
        return head + b"\r\n\r\n" + body[: int(length[1])]

    def closed(self) -> bool:
        """Whether the server closes the connection now."""
        try:
            return not self._left and self.raw.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self, data: bytes) -> bytes:
        chunk = self.raw.recv(1 << 16)
        assert chunk, f"the server closed the connection after {data[:200]!r}"
        return data + chunk


def post(path: str, body: bytes, *headers: str) -> bytes:
    """An HTTP/1.1 request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status(response: bytes) -> int:
    return int(response[9:12])


def body(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]
