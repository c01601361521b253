"""The requests of a connection that uvicorn's parser and Starlette answer, each exactly up to its end."""

import asyncio
import re
from typing import Any, Protocol

from httptools import HttpRequestParser
from starlette.responses import Response
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fastserve.errors import PayloadTooLarge
from fastserve.frontends.http.errors import ErrorAnswer, answer, error_body, plain
from fastserve.frontends.http.one_write import OneWrite
from fastserve.frontends.http.request_line import with_path
from fastserve_core.wire.head import ChunkScanner, RequestHead

_UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r]*")


class Owner(Protocol):
    """What a connection does for its ordinary requests."""

    def hold(self, data: bytes) -> None:
        """Keep bytes that lie behind the request."""

    def refuse(self, error: ErrorAnswer) -> None:
        """Answer for the last time."""

    def ordinary_done(self) -> None:
        """The request has arrived as a whole, and is answered."""


class Ordinary(HttpToolsProtocol):
    """The ordinary requests of one connection, one at a time; `lane.Exchange` has the fast ones.

    It is uvicorn's protocol without a socket: the connection gives it bytes, and ends what is to be ended.
    """

    _head: RequestHead

    def __init__(self, owner: Owner, max_body_bytes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owner = owner
        self._max_body_bytes = max_body_bytes
        self._remaining = 0
        self._chunks: ChunkScanner | None = None
        self._task: asyncio.Task[None] | None = None
        self._answer: OneWrite | None = None

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """uvicorn's request in hand; None before its head is read, though the annotation says never."""
        return self.cycle

    @property
    def has_arrived(self) -> bool:
        """Whether the last byte of the request in hand has come."""
        return self._remaining == 0

    def connect(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        """Answer to a client from now on."""
        super().connection_made(transport)
        self.connections.discard(self)  # the server knows the owner
        self.flow = flow

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; breaks the circle of references with the owner."""
        super().connection_lost(exc)
        self._owner = None  # type: ignore[assignment]

    def begin(self, head: RequestHead, data: bytes) -> None:
        """Give the request at the start of `data` to uvicorn's parser, exactly up to its end."""
        self._head = head
        self.cycle = None  # type: ignore[assignment]
        if self._chunks is not None:
            # Behind a trailer `Connection: close` the parser would swallow this request in silence.
            self.parser = HttpRequestParser(self)
        self._chunks = ChunkScanner() if head.chunked else None
        self._remaining = 1 if head.chunked else max(head.content_length, 0)
        stop = head.head_length
        if b"upgrade:" in data[:stop].lower():
            # A server may ignore Upgrade (RFC 9110, 7.8); uvicorn's parser would lose the body over it.
            head_text = _UPGRADE.sub(b"", data[:stop])
            data = head_text + data[stop:]
            stop = len(head_text)
        if self._chunks is None and len(data) <= stop + self._remaining:
            self._remaining -= len(data) - stop
            self.data_received(data)
            return
        self.data_received(data[:stop])
        if len(data) > stop:
            self.feed(data[stop:])

    def feed(self, data: bytes) -> None:
        """Pass body bytes on; what lies behind the body is held."""
        if self._remaining == 0:
            self._owner.hold(data)
            return
        if self._chunks is not None:
            end = self._chunks.feed(data)
            if reason := self._chunks.reason:
                self._owner.refuse(plain(400, reason))
                return
            if self._chunks.announced_bytes > self._max_body_bytes:
                self._owner.refuse(answer(PayloadTooLarge(self._max_body_bytes)))
                return
            if end >= 0:
                self._remaining = 0
        else:
            end = self._remaining if len(data) >= self._remaining else -1
            self._remaining -= min(len(data), self._remaining)
        if 0 <= end < len(data):
            self._owner.hold(data[end:])
            data = data[:end]
        self.data_received(data)
        if self._remaining == 0 and self._cycle is not None and self._cycle.response_complete:
            self._owner.ordinary_done()

    def withdraw(self, mark: str) -> bool:
        """Give the request in hand up, for the reason `mark`; tell whether its answer has begun to leave."""
        cycle = self._cycle
        if cycle is None:
            return False
        cycle.scope.setdefault("extensions", {})[mark] = {}
        if not cycle.response_complete:
            cycle.disconnected = True
            cycle.on_response = lambda: None
            if self._task is not None:
                self._task.cancel()
        return cycle.response_started

    # -- what uvicorn calls -------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """uvicorn's parser has read a header line: without the white space behind it, which it leaves on."""
        if self._cycle is not None:
            return  # a trailer, which says nothing about the request (RFC 9110, 6.5.1)
        if self._head.http_minor == 0 and name.lower() == b"expect":
            return  # HTTP/1.0 has no 100 Continue (RFC 9110, 10.1.1)
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """uvicorn's parser has read the head; what it makes of the target needs a path."""
        self.url = with_path(self.url)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        async def withdrawable(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                if cycle.disconnected:
                    return
                if cycle.response_started:
                    raise
                stopping = Response(error_body("the server is stopping"), 503, {"retry-after": "1"})
                await stopping(scope, receive, send)

        self._answer = cycle.transport = OneWrite(self.transport, cycle)
        self._task = task = self.loop.create_task(cycle.run_asgi(withdrawable))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """uvicorn has written the last byte of an answer."""
        self.server_state.total_requests += 1
        if self._answer is not None:
            self._answer.flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._remaining == 0:
            self._owner.ordinary_done()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's parser did not like what the gate let through; its `msg` says no more than that."""
        self._owner.refuse(plain(400, "the request or a trailer behind it is not valid HTTP"))
