"""One HTTP connection without its fast path: the gate, the hand-over to uvicorn, time limits, endings.

Every request head passes one strict gate (`wire.head`). A request then goes, bytes untouched and exactly up
to its end, to uvicorn's own parser and the Starlette application; the next one follows when it is answered,
so that pipelined answers keep their order whichever way each request takes.
"""

import asyncio
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar

from starlette.responses import Response
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fastserve.errors import PayloadTooLarge
from fastserve.frontends.http.counting import CLIENT_GONE, LEFT, REFUSED
from fastserve.frontends.http.errors import ErrorAnswer, answer, error_body, plain
from fastserve.frontends.http.one_write import OneWrite
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.raw import render
from fastserve.frontends.http.request_line import refused, with_path
from fastserve_core.lane import Exchange, Lane, Shared
from fastserve_core.wire.head import ChunkScanner, RequestHead

_UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r]*")
_LINGER_S = 2.0
_COARSE_S = 1.0
"""The clock of connections stands still between two sweeps."""
_LAST_CALL_S = 0.5
"""What is on its way when the server stops has this long to arrive: its client could not know."""
_PENDING_LIMIT = 64 * 2**10
_BYTES_PER_SECOND = 64 * 2**10
"""A body earns more time as it arrives: slow links may finish, a byte a second may not."""


class Phase(IntEnum):
    """Where a connection stands; `fastserve_core.lane` moves between HEAD and WAITING only."""

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


class Environment:
    """What all connections of a worker share."""

    def __init__(
        self, routes: dict[bytes, Lane], options: HttpOptions, count_code: Callable[[int], None]
    ) -> None:
        self.options = options
        self.count_code = count_code
        """Told the status of a request that no version answered."""
        routes = routes if options.fast_path else {}
        self.shared = Shared(routes, options.max_body_bytes, options.compress_min_bytes)
        self.stopping = False
        """Who connects from now on is told to go like all others: uvicorn tells those that it knows once."""


class _Flow(FlowControl):
    """Reads only while little waits to be looked at, and while the client reads what it is sent."""

    def __init__(self, transport: asyncio.Transport, pending: bytearray) -> None:
        super().__init__(transport)
        self._pending = pending

    def resume_reading(self) -> None:
        """Read on, unless that would only make more wait."""
        if len(self._pending) <= _PENDING_LIMIT and not self.write_paused:
            super().resume_reading()


class GatedProtocol(HttpToolsProtocol):
    """uvicorn's protocol behind the gate, one request at a time."""

    environment: ClassVar[Environment]
    _exchange: Exchange
    """Made by the subclass, whose methods it calls."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._env = self.environment
        self._pending = bytearray()
        self._unread = (0, 0.0)
        """Bytes of answers that the client has not taken, and since when it is as many."""
        self._received = 0
        self._closing = self._stepping = False
        self._remaining = 0
        self._chunks: ChunkScanner | None = None
        self._task: asyncio.Task[None] | None = None
        self._answer: OneWrite | None = None

    @property
    def _head(self) -> RequestHead:
        return self._exchange.head

    @property
    def _phase(self) -> int:
        return self._exchange.phase

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """uvicorn's request in hand; None before its head is read, though the annotation says never."""
        return self.cycle

    def _enter_phase(self, phase: Phase) -> None:
        self._exchange.phase = phase
        self._exchange.since_s = self._env.shared.now_s

    def _keep(self, data: bytes | bytearray) -> None:
        """Keep bytes for later; from now on the fast path asks before it takes any."""
        self._pending += data
        self._exchange.partial = self._exchange.attention = True

    def _take_pending(self) -> bytes:
        data = bytes(self._pending)
        self._pending.clear()
        self._exchange.partial = False
        self._exchange.attention = self._closing
        return data

    def _hold(self, data: bytes | bytearray) -> None:
        """Keep bytes of later requests until the one in hand is answered."""
        self._keep(data)
        if len(self._pending) > _PENDING_LIMIT:
            self.flow.pause_reading()

    def _begin(self, data: bytes) -> None:
        """Look at the request whose first byte is data[0]; `data` is all that has arrived."""
        raise NotImplementedError

    def _next(self) -> None:
        """The request in hand is done: go on with what has arrived meanwhile."""
        self._enter_phase(Phase.HEAD)
        self._received = 0
        if self._stepping:
            return  # the loop further up the stack goes on
        self._stepping = True
        try:
            # Answers may come at once, thousands of refusals in a row: no call is made within another.
            left = -1
            while self._goes_on() and len(self._pending) not in (0, left):
                left = len(self._pending)
                self._begin(self._take_pending())
        finally:
            self._stepping = False
        self.flow.resume_reading()

    def _goes_on(self) -> bool:
        return self._phase == Phase.HEAD and not self._closing and not self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self._pending)

    def pause_writing(self) -> None:
        """The client does not read its answers: it gets no others."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """It has read them."""
        super().resume_writing()
        if self._phase == Phase.HEAD:
            self._next()
        else:
            self.flow.resume_reading()

    # -- the hand-over ------------------------------------------------------------------------------------

    def _hand_over(self, data: bytes) -> None:
        """Give the request at the start of `data` to uvicorn, exactly up to its end."""
        head = self._head
        if (refusal := refused(head)) is not None:
            self._refuse(refusal)
            return
        if head.content_length > self._env.options.max_body_bytes:
            self._refuse(answer(PayloadTooLarge(self._env.options.max_body_bytes)))
            return
        self._enter_phase(Phase.ORDINARY)
        self.cycle = None  # type: ignore[assignment]
        self._received = len(data)
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
            end = self._chunks.feed(data)
            if reason := self._chunks.reason:
                self._refuse(plain(400, reason))
                return
            if self._chunks.announced_bytes > self._env.options.max_body_bytes:
                self._refuse(answer(PayloadTooLarge(self._env.options.max_body_bytes)))
                return
            if end >= 0:
                self._remaining = 0
        else:
            end = self._remaining if len(data) >= self._remaining else -1
            self._remaining -= min(len(data), self._remaining)
        if 0 <= end < len(data):
            self._keep(data[end:])
            data = data[:end]
        super().data_received(data)
        if self._remaining == 0 and self._cycle is not None and self._cycle.response_complete:
            self._finish_ordinary()

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

        if self._closing:  # the stop came while the body did
            cycle.keep_alive = False
        self._answer = cycle.transport = OneWrite(self.transport, cycle)
        self._task = task = self.loop.create_task(cycle.run_asgi(withdrawable))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

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

    def on_response_complete(self) -> None:
        """uvicorn has written the last byte of an answer."""
        self.server_state.total_requests += 1
        if self._answer is not None:
            self._answer.flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._remaining == 0:
            self._finish_ordinary()

    def _finish_ordinary(self) -> None:
        if self._phase == Phase.ORDINARY and not self.transport.is_closing():
            self._task = None
            self._next()

    # -- endings ------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """uvicorn's parser did not like what the gate let through; its `msg` says no more than that."""
        self._refuse(plain(400, "the request or a trailer behind it is not valid HTTP"))

    def _write_error(self, error: ErrorAnswer, *, closing: bool) -> None:
        headers = {"connection": "close"} if closing else {}
        default = self._env.shared.default_headers(self.server_state.default_headers)
        self.transport.write(render(error.status, default, {**headers, **error.headers}, error.body))

    def _refuse(self, error: ErrorAnswer) -> None:
        """Answer for the last time, then let the client read the answer before the connection goes."""
        if self._phase == Phase.DISCARD or self.transport.is_closing():
            return
        started = False
        if self._phase == Phase.ORDINARY and self._cycle is not None:
            started = self._cycle.response_started
            self._abandon_cycle(REFUSED)
        if not started:
            self._env.count_code(error.status)
            self._write_error(error, closing=True)
        self._linger()

    def _abandon_cycle(self, mark: str) -> None:
        cycle = self.cycle
        cycle.scope.setdefault("extensions", {})[mark] = {}
        if not cycle.response_complete:
            cycle.disconnected = True
            cycle.on_response = lambda: None
            if self._task is not None:
                self._task.cancel()

    def _linger(self) -> None:
        """Read away what still comes: a close with unread bytes is a reset and may take the answer along."""
        self._enter_phase(Phase.DISCARD)
        self._pending.clear()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what it waited for is withdrawn, its batch mates notice nothing."""
        lane, token = self._exchange.lane, self._exchange.token
        if lane is not None and token >= 0:
            lane.owner.cancel(token)
            lane.owner.stats.count_code(CLIENT_GONE)
        elif self._phase == Phase.ORDINARY and self._cycle is not None:
            self._abandon_cycle(LEFT)
        elif self._phase != Phase.DISCARD and self._received:
            self._env.count_code(CLIENT_GONE)
        self._exchange.phase = Phase.DISCARD
        self._exchange.close()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client has closed its side: it is gone, and what it waited for is withdrawn with it.

        A client that only half-closes looks the same; answering it would mean working for all who have left.
        """
        phase = self._phase
        waiting = phase == Phase.WAITING or (phase == Phase.ORDINARY and self._remaining == 0)
        if phase != Phase.DISCARD and self._received and not waiting:
            self._refuse(plain(400, "the request ended before it was complete"))
        return None

    def shutdown(self) -> None:
        """The server stops: finish the request in hand, or one that is on its way, and start no other."""
        if self._phase == Phase.ORDINARY:
            super().shutdown()
        elif self._phase == Phase.DISCARD:
            self.transport.close()
        else:
            self._closing = self._exchange.attention = True
            self.loop.call_later(_LAST_CALL_S, self._close_unasked)

    def _close_unasked(self) -> None:
        if self._phase == Phase.HEAD:
            self.transport.close()

    def sweep(self, now_s: float) -> None:
        """Called about once a second: end requests that do not arrive and connections that do not speak."""
        options = self._env.options
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self._unread[0]:
            self._unread = (unread, now_s)
        elif now_s - self._unread[1] > options.read_timeout_s:
            self.transport.abort()  # a close would wait for ever until the client has read
        if self.transport.is_closing():
            return
        phase = self._phase
        waited_s = now_s - self._exchange.since_s
        idle = phase == Phase.HEAD and not (self._received or unread)
        if phase == Phase.ORDINARY:
            arriving = self._remaining > 0
        else:
            arriving = phase in (Phase.HEAD, Phase.BODY) and self._received > 0
        if arriving and waited_s > options.read_timeout_s + self._received / _BYTES_PER_SECOND:
            self._refuse(plain(408, "the request did not arrive in time"))
        elif idle and waited_s - _COARSE_S > options.keep_alive_s:
            self.transport.close()
