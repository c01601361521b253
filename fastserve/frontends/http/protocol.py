"""The uvicorn protocol with the fast path: plain infer requests are decoded, batched and answered right here.

Every request head passes one strict gate first. What is plainly an infer request for a served version goes straight
into the batch buffer; everything else goes, bytes untouched, to uvicorn's own parser and the Starlette application,
one request at a time, so that pipelined answers keep their order whichever way each request takes.
"""

import asyncio
from enum import IntEnum
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fastserve.dataplane import DataPlane, Served
from fastserve.errors import FastserveError, PayloadTooLarge
from fastserve.frontends.http.compression import choose, compress, encoding_headers
from fastserve.frontends.http.errors import ErrorAnswer, answer, error_body
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.raw import recompress, render
from fastserve.types import Array
from fastserve_core.wire.decode import Envelope
from fastserve_core.wire.head import BAD, FAST, INCOMPLETE, ChunkScanner, RequestHead


class Phase(IntEnum):
    """Where a connection stands; `FastProtocol` alone moves it."""

    HEAD = 0
    """Between requests, or a head is arriving."""
    BODY = 1
    """The body of a fast request is arriving."""
    WAITING = 2
    """A fast request waits for its batch."""
    ORDINARY = 3
    """uvicorn's parser and Starlette have the request."""
    DISCARD = 4
    """Answered for the last time; what still arrives is thrown away until the client has read the answer."""


_LINGER_S = 2.0
_PENDING_LIMIT = 64 * 2**10
_BYTES_PER_SECOND = 64 * 2**10
"""A body earns more time as it arrives: slow links may finish, a byte a second may not."""


class Environment:
    """What all connections of a worker share."""

    def __init__(self, plane: DataPlane, options: HttpOptions) -> None:
        self.plane = plane
        self.options = options
        self.routes = plane.fast_routes if options.fast_path else {}
        self.now_s = 0.0
        """Coarse monotonic time, moved by the sweeper."""
        self.fast_requests = 0
        """Requests that the fast path took."""
        self._headers_seen: object = None
        self._headers = b""

    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's default headers as bytes; it replaces the list once a second for the date."""
        if headers is not self._headers_seen:
            self._headers_seen = headers
            self._headers = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        return self._headers


class FastProtocol(HttpToolsProtocol):
    """One connection. Subclassed per worker by `protocol_class`, which sets `environment`."""

    environment: ClassVar[Environment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._env = self.environment
        self._routes = self.environment.routes
        self._max_body = self.environment.options.max_body_bytes
        self._compress_min = self.environment.options.compress_min_bytes
        self._phase = Phase.HEAD
        self._head = RequestHead()
        self._envelope = Envelope()
        self._pending = bytearray()
        self._since_s = self.environment.now_s
        self._received = 0
        self._closing = False
        # the fast request in hand
        self._served: Served | None = None
        self._token = -1
        self._accept_encoding: bytes | None = None
        self._body = bytearray()
        self._body_stop = 0
        # the ordinary request in hand
        self._remaining = 0
        self._chunks: ChunkScanner | None = None
        self._task: asyncio.Task[None] | None = None

    # -- bytes in -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == Phase.HEAD:
            if self._pending:
                self._pending += data
                data = bytes(self._pending)
                self._pending.clear()
            self._begin(data)
        elif phase == Phase.ORDINARY:
            self._feed(data)
        elif phase == Phase.BODY:
            self._collect(data)
        elif phase == Phase.WAITING:
            self._hold(data)

    def _begin(self, data: bytes) -> None:
        """Look at the request whose first byte is data[0]; `data` is all that has arrived."""
        head = self._head
        verdict = head.scan(data)
        if verdict == FAST:
            served = self._routes.get(head.target)
            if served is not None and head.content_length <= self._max_body:
                stop = head.head_length + head.content_length
                have = len(data)
                if have < stop:
                    self._start_body(served, data, stop)
                    return
                if have > stop:
                    self._pending += data[stop:]
                if not self._submit(served, data, stop):
                    self._hand_over(data if have == stop else data[:stop])
                return
        elif verdict == INCOMPLETE:
            if not self._received:
                self._since_s = self._env.now_s
            self._received = len(data)
            self._pending += data
            return
        elif verdict == BAD:
            self._refuse(ErrorAnswer(head.status, {}, error_body(head.reason)))
            return
        if head.content_length > self._max_body:
            self._refuse(answer(PayloadTooLarge(self._max_body)))
            return
        self._hand_over(data)

    def _hold(self, data: bytes) -> None:
        """Keep bytes of later requests until the one in hand is answered."""
        self._pending += data
        if len(self._pending) > _PENDING_LIMIT:
            self.flow.pause_reading()

    # -- the fast path ------------------------------------------------------------------------------------

    def _start_body(self, served: Served, data: bytes, stop: int) -> None:
        self._phase = Phase.BODY
        self._served = served
        self._since_s = self._env.now_s
        self._received = len(data)
        self._body = bytearray(data)
        self._body_stop = stop

    def _collect(self, data: bytes) -> None:
        self._body += data
        have = len(self._body)
        self._received = have
        stop = self._body_stop
        if have < stop:
            return
        body, self._body = self._body, bytearray()
        served, self._served = self._served, None
        assert served is not None
        if have > stop:
            self._pending += body[stop:]
        if not self._submit(served, body, stop):
            self._hand_over(bytes(body[:stop]))

    def _submit(self, served: Served, data: bytes | bytearray, stop: int) -> bool:
        """Decode and commit the request at the start of `data`; false: the ordinary way must take it."""
        head = self._head
        self._phase = Phase.WAITING
        self._received = 0
        self._served = served
        self._token = -1
        self._accept_encoding = head.accept_encoding
        token = served.accept(data, head.head_length, head.json_length, stop, head.timeout_us, self._envelope, self)
        if token >= 0:
            self._env.fast_requests += 1
            # The answer may be on its way already: then the connection has moved on.
            if self._phase == Phase.WAITING:
                self._token = token
            return True
        self._served = None
        return False

    def deliver(self, outputs: list[Array], start: int, rows: int) -> None:
        """Answer the fast request: encode its rows and write them in one piece."""
        envelope = self._envelope
        served = self._served
        assert served is not None
        headers = self._env.default_headers(self.server_state.default_headers)
        try:
            response = served.encoder.http(outputs, start, rows, envelope.id_json, envelope.selection, headers)
            if self._accept_encoding and len(response) >= self._compress_min:
                response = self._compressed(response, headers)
            if self._closing:
                response = response.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        except Exception as error:
            self.fail(error)
            return
        self.transport.write(response)
        self._answered()

    def _compressed(self, response: bytes, headers: bytes) -> bytes:
        encoding = choose(self._accept_encoding)
        body = response[response.index(b"\r\n\r\n") + 4 :]
        if encoding is None or len(body) < self._compress_min:
            return response
        return recompress(response, headers, compress(body, encoding), encoding_headers(encoding))

    def fail(self, error: Exception) -> None:
        """Answer the fast request with an error, as the ordinary path would."""
        if not isinstance(error, FastserveError):
            self.logger.error("a fast request failed", exc_info=error)
        self._write_error(answer(error), closing=self._closing)
        self._answered()

    def _answered(self) -> None:
        self._served = None
        self._token = -1
        self.server_state.total_requests += 1
        if self._closing:
            self.transport.close()
        else:
            self._next()

    def _next(self) -> None:
        """The request in hand is done: go on with what has arrived meanwhile."""
        self._phase = Phase.HEAD
        self._since_s = self._env.now_s
        self._received = 0
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            self._begin(data)

    # -- the ordinary path --------------------------------------------------------------------------------

    def _hand_over(self, data: bytes) -> None:
        """Give the request at the start of `data` to uvicorn, exactly up to its end."""
        head = self._head
        self._phase = Phase.ORDINARY
        self._since_s = self._env.now_s
        self._received = len(data)
        if head.chunked:
            self._chunks = ChunkScanner()
            self._remaining = 1
        else:
            self._chunks = None
            self._remaining = max(head.content_length, 0)
        stop = head.head_length
        if self._chunks is None and len(data) <= stop + self._remaining:
            self._remaining -= len(data) - stop
            super().data_received(data)
            return
        super().data_received(data[:stop])
        if len(data) > stop:
            self._feed(data[stop:])

    def _feed(self, data: bytes) -> None:
        """Pass body bytes on; what lies behind the body is kept."""
        if self._remaining == 0:
            self._hold(data)
            return
        self._received += len(data)
        if self._chunks is not None:
            end = self._chunks.feed(data, 0)
            if end == -2:
                self._refuse(ErrorAnswer(400, {}, error_body("the chunked request body is malformed")))
                return
            if self._chunks.body_bytes > self._max_body:
                self._refuse(answer(PayloadTooLarge(self._max_body)))
                return
            if end >= 0:
                self._remaining = 0
        else:
            end = self._remaining if len(data) >= self._remaining else -1
            self._remaining -= min(len(data), self._remaining)
        if 0 <= end < len(data):
            self._pending += data[end:]
            data = data[:end]
        super().data_received(data)
        if self._remaining == 0 and self.cycle is not None and self.cycle.response_complete:
            self._finish_ordinary()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        async def withdrawable(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                if not cycle.disconnected:
                    raise

        self._task = task = self.loop.create_task(cycle.run_asgi(withdrawable))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._remaining == 0:
            self._finish_ordinary()

    def _finish_ordinary(self) -> None:
        if self._phase == Phase.ORDINARY and not self.transport.is_closing():
            self._next()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's parser did not like what the gate let through."""
        self._refuse(ErrorAnswer(400, {}, error_body(msg)))

    # -- endings ------------------------------------------------------------------------------------------

    def _write_error(self, error: ErrorAnswer, *, closing: bool) -> None:
        headers = {"connection": "close"} if closing else {}
        default = self._env.default_headers(self.server_state.default_headers)
        self.transport.write(render(error.status, default, {**headers, **error.headers}, error.body))

    def _refuse(self, error: ErrorAnswer) -> None:
        """Answer for the last time, then let the client read the answer before the connection goes."""
        if self._phase == Phase.DISCARD or self.transport.is_closing():
            return
        ordinary = self.cycle is not None and self._phase == Phase.ORDINARY
        if ordinary:
            self._abandon_cycle()
        if not ordinary or not self.cycle.response_started:
            self._write_error(error, closing=True)
        self._linger()

    def _abandon_cycle(self) -> None:
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.disconnected = True
            cycle.on_response = lambda: None
            if self._task is not None:
                self._task.cancel()

    def _linger(self) -> None:
        """Closing with unread bytes resets the connection and may take the answer with it: read them away first."""
        self._phase = Phase.DISCARD
        self._since_s = self._env.now_s
        self._pending = bytearray()
        self._body = bytearray()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._phase == Phase.WAITING and self._served is not None and self._token >= 0:
            self._served.cancel(self._token)
        elif self._phase == Phase.ORDINARY and self.cycle is not None:
            self._abandon_cycle()
        self._phase = Phase.DISCARD
        self._served = None
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that has sent everything may still read: answer what is in hand, then close."""
        phase = self._phase
        if phase == Phase.WAITING:
            self._closing = True
            return True
        if phase == Phase.ORDINARY and self._remaining == 0 and self.cycle is not None:
            self.cycle.keep_alive = False
            return True
        if phase in (Phase.HEAD, Phase.BODY, Phase.ORDINARY) and self._received:
            self._refuse(ErrorAnswer(400, {}, error_body("the request ended before it was complete")))
        return None

    def shutdown(self) -> None:
        """The server stops: finish the request in hand, start no other."""
        if self._phase == Phase.ORDINARY:
            super().shutdown()
        elif self._phase in (Phase.WAITING, Phase.BODY):
            self._closing = True
        else:
            self.transport.close()

    def sweep(self, now_s: float) -> None:
        """Called about once a second: end requests that do not arrive and connections that do not speak."""
        options = self._env.options
        waited_s = now_s - self._since_s
        arriving = self._received > 0 and (
            self._phase in (Phase.HEAD, Phase.BODY) or (self._phase == Phase.ORDINARY and self._remaining > 0)
        )
        if arriving and waited_s > options.read_timeout_s + self._received / _BYTES_PER_SECOND:
            self._refuse(ErrorAnswer(408, {}, error_body("the request did not arrive in time")))
        elif self._phase == Phase.HEAD and not self._received and waited_s > options.keep_alive_s:
            self.transport.close()


def protocol_class(plane: DataPlane, options: HttpOptions) -> type[FastProtocol]:
    """Make the class that `uvicorn.Config(http=…)` takes, bound to one worker's data plane."""
    return type("WorkerProtocol", (FastProtocol,), {"environment": Environment(plane, options)})
