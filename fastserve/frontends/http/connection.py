"""One HTTP connection, as uvicorn's server knows it: the gate, the two ways, time limits, endings.

`fastserve_core.lane.Exchange` takes every read that is exactly one plain request by itself. This class
sees the rest: requests in pieces or in a row, answers that are compressed, last or errors, and requests for
uvicorn and Starlette. Every request head passes one strict gate (`wire.head`) before another parser sees a
byte of it; the next request follows when the one before is answered, so that pipelined answers keep their
order whichever way each takes.
"""

import asyncio
from enum import IntEnum
from typing import Any, ClassVar

from fastserve.dataplane import DataPlane
from fastserve.errors import PayloadTooLarge
from fastserve.frontends.http.compression import choose, compress, encoding_headers
from fastserve.frontends.http.counting import CLIENT_GONE, LEFT, REFUSED
from fastserve.frontends.http.environment import Environment
from fastserve.frontends.http.errors import ErrorAnswer, answer, log_failure, plain
from fastserve.frontends.http.flow import Flow
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.ordinary import Ordinary
from fastserve.frontends.http.raw import recompress, render
from fastserve.frontends.http.request_line import refused
from fastserve_core.lane import Exchange, Lane
from fastserve_core.wire.head import BAD, FAST, INCOMPLETE, RequestHead

_LINGER_S = 2.0
_COARSE_S = 1.0
"""The clock of connections that come or are answered stands still between two sweeps."""
_LAST_CALL_S = 0.5
"""What is on its way when the server stops has this long to arrive: its client could not know."""
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


class Connection(asyncio.Protocol):
    """One connection, one request at a time. Subclassed per worker by `protocol_class`."""

    environment: ClassVar[Environment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        env = self._env = self.environment
        self._ordinary = Ordinary(self, env.options.max_body_bytes, *args, **kwargs)
        self._loop = self._ordinary.loop
        self._server_state = self._ordinary.server_state
        self._exchange = Exchange(env.shared, self, self._server_state)
        self._pending = bytearray()
        self._unread = (0, 0.0)
        """Bytes of answers that the client has not taken, and since when it is as many."""
        self._received = 0
        self._closing = self._stepping = False
        self._lane: Lane | None = None
        self._body = bytearray()
        self._body_stop = 0
        # The transport looks this up once per connection: bytes go to the compiled half first.
        self.data_received = self._exchange.data_received  # type: ignore[method-assign]

    @property
    def _head(self) -> RequestHead:
        return self._exchange.head

    @property
    def _phase(self) -> int:
        return self._exchange.phase

    def _enter_phase(self, phase: Phase) -> None:
        self._exchange.phase = phase
        self._exchange.since_s = self._loop.time()

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

    def hold(self, data: bytes | bytearray) -> None:
        """Keep bytes of later requests until the one in hand is answered."""
        self._keep(data)
        self._flow.hold_back()

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
        self._flow.resume_reading()

    def _goes_on(self) -> bool:
        return self._phase == Phase.HEAD and not self._closing and not self._flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._transport = transport
        self._flow = Flow(transport, self._pending)
        self._exchange.connect(transport.write)
        self._ordinary.connect(transport, self._flow)
        if self._env.stopping:
            self.shutdown()

    def pause_writing(self) -> None:
        """The client does not read its answers: it gets no others."""
        self._flow.pause_writing()
        self._flow.pause_reading()

    def resume_writing(self) -> None:
        """It has read them."""
        self._flow.resume_writing()
        if self._phase == Phase.HEAD:
            self._next()
        else:
            self._flow.resume_reading()

    # -- what arrives -------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Bytes that the compiled half did not take as one plain request."""
        phase = self._phase
        if phase == Phase.HEAD and self._flow.write_paused:
            self.hold(data)
        elif phase == Phase.HEAD:
            if self._pending:
                self._pending += data
                data = self._take_pending()
            self._begin(data)
        elif phase == Phase.ORDINARY:
            self._received += len(data)
            self._ordinary.feed(data)
        elif phase == Phase.BODY:
            self._collect(data)
        elif phase == Phase.WAITING:
            self.hold(data)

    def _begin(self, data: bytes) -> None:
        """Look at the request whose first byte is data[0]; `data` is all that has arrived."""
        head = self._head
        verdict = head.scan(data)
        if verdict == INCOMPLETE:
            if not self._received:
                self._enter_phase(Phase.HEAD)
            self._received = len(data)
            self._keep(data)
            return
        if verdict == BAD:
            self.refuse(plain(head.status, head.reason))
            return
        lane = self._exchange.route() if verdict == FAST else None
        if lane is None:
            self._hand_over(data)
            return
        stop = head.head_length + head.content_length
        have = len(data)
        if have < stop:
            self._enter_phase(Phase.BODY)
            self._lane = lane
            self._received = have
            self._body = bytearray(data)
            self._body_stop = stop
            return
        if have > stop:
            self._keep(data[stop:])
        self._submit(lane, data, stop)

    def _collect(self, data: bytes) -> None:
        self._body += data
        self._received = have = len(self._body)
        stop = self._body_stop
        if have < stop:
            return
        body, self._body = self._body, bytearray()
        lane, self._lane = self._lane, None
        assert lane is not None
        if have > stop:
            self._keep(body[stop:])
        self._enter_phase(Phase.HEAD)
        self._submit(lane, body, stop)

    def _submit(self, lane: Lane, data: bytes | bytearray, stop: int) -> None:
        """Decode and commit the request data[:stop], or give it to the ordinary path."""
        self._received = 0
        if self._exchange.enter(lane, data, stop) < 0:
            self._hand_over(bytes(data[:stop]))

    def _hand_over(self, data: bytes) -> None:
        """Give the request at the start of `data` to uvicorn."""
        head = self._head
        if (refusal := refused(head)) is not None:
            self.refuse(refusal)
            return
        if head.content_length > self._env.options.max_body_bytes:
            self.refuse(answer(PayloadTooLarge(self._env.options.max_body_bytes)))
            return
        self._enter_phase(Phase.ORDINARY)
        self._received = len(data)
        self._ordinary.begin(head, data)
        if self._closing and self._phase == Phase.ORDINARY:  # the stop came while the request did
            self._ordinary.shutdown()

    def ordinary_done(self) -> None:
        """The ordinary request has arrived as a whole, and is answered."""
        if self._phase == Phase.ORDINARY and not self._transport.is_closing():
            self._next()

    # -- what the compiled half asks for ------------------------------------------------------------------

    def end(self) -> None:
        """Close once the request in hand is answered."""
        self._closing = self._exchange.attention = True

    def compressed(self, response: bytes) -> bytes:
        """The answer as the client's Accept-Encoding wants it."""
        encoding = choose(self._exchange.accept_encoding)
        body = response[response.index(b"\r\n\r\n") + 4 :]
        if encoding is None or len(body) < self._env.options.compress_min_bytes:
            return response
        headers = self._env.shared.default_headers(self._server_state.default_headers)
        return recompress(response, headers, compress(body, encoding), encoding_headers(encoding))

    def last_words(self, response: bytes) -> bytes:
        """The answer with `connection: close` when no other will follow."""
        if self._closing:
            return response.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        return response

    def fail(self, error: Exception) -> None:
        """Answer the fast request with an error, as the ordinary path would."""
        log_failure(error)
        parts = answer(error)
        lane = self._exchange.lane
        if lane is not None and lane.owner is not None:
            lane.owner.stats.count_code(parts.status)
        self._transport.write(self.last_words(self._rendered(parts)))
        self._exchange.settle()

    def answered(self) -> None:
        """The fast request is answered and something is to be done: close, or go on with pending bytes."""
        if self._closing:
            self._transport.close()
        else:
            self._next()

    # -- endings ------------------------------------------------------------------------------------------

    def _rendered(self, error: ErrorAnswer, **headers: str) -> bytes:
        default = self._env.shared.default_headers(self._server_state.default_headers)
        return render(error.status, default, headers | error.headers, error.body)

    def refuse(self, error: ErrorAnswer) -> None:
        """Answer for the last time, then let the client read the answer before the connection goes."""
        if self._phase == Phase.DISCARD or self._transport.is_closing():
            return
        started = False
        if self._phase == Phase.ORDINARY:
            started = self._ordinary.withdraw(REFUSED)
        if not started:
            self._env.count_code(error.status)
            self._transport.write(self._rendered(error, connection="close"))
        self._linger()

    def _linger(self) -> None:
        """Read away what still comes: a close with unread bytes is a reset and may take the answer along."""
        self._enter_phase(Phase.DISCARD)
        self._pending.clear()
        self._flow.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what it waited for is withdrawn, its batch mates notice nothing."""
        lane, token = self._exchange.lane, self._exchange.token
        if lane is not None and token >= 0:
            lane.owner.cancel(token)
            lane.owner.stats.count_code(CLIENT_GONE)
        elif self._phase == Phase.ORDINARY:
            self._ordinary.withdraw(LEFT)
        elif self._phase != Phase.DISCARD and self._received:
            self._env.count_code(CLIENT_GONE)
        self._exchange.phase = Phase.DISCARD
        self._exchange.close()
        self._ordinary.connection_lost(exc)
        self._server_state.connections.discard(self)

    def eof_received(self) -> bool | None:
        """The client has closed its side: it is gone, and what it waited for is withdrawn with it.

        A client that only half-closes looks the same; answering it would mean working for all who have left.
        """
        phase = self._phase
        waiting = phase == Phase.WAITING or (phase == Phase.ORDINARY and self._ordinary.has_arrived)
        if phase != Phase.DISCARD and self._received and not waiting:
            self.refuse(plain(400, "the request ended before it was complete"))
        return None

    def shutdown(self) -> None:
        """The server stops: finish the request in hand, or one that is on its way, and start no other."""
        if self._phase == Phase.ORDINARY:
            self._ordinary.shutdown()
        elif self._phase == Phase.DISCARD:
            self._transport.close()
        else:
            self.end()
            self._loop.call_later(_LAST_CALL_S, self._close_unasked)

    def _close_unasked(self) -> None:
        if self._phase == Phase.HEAD:
            self._transport.close()

    def sweep(self, now_s: float) -> None:
        """Called about once a second: end requests that do not arrive and connections that do not speak."""
        options = self._env.options
        unread = self._transport.get_write_buffer_size()
        if unread == 0 or unread != self._unread[0]:
            self._unread = (unread, now_s)
        elif now_s - self._unread[1] > options.read_timeout_s:
            self._transport.abort()  # a close would wait for ever until the client has read
        if self._transport.is_closing():
            return
        phase = self._phase
        waited_s = now_s - self._exchange.since_s
        idle = phase == Phase.HEAD and not (self._received or unread)
        if phase == Phase.ORDINARY:
            arriving = not self._ordinary.has_arrived
        else:
            arriving = phase in (Phase.HEAD, Phase.BODY) and self._received > 0
        if arriving and waited_s > options.read_timeout_s + self._received / _BYTES_PER_SECOND:
            self.refuse(plain(408, "the request did not arrive in time"))
        elif idle and waited_s - _COARSE_S > options.keep_alive_s:
            self._transport.close()


def protocol_class(plane: DataPlane, options: HttpOptions) -> type[Connection]:
    """Make the class that `uvicorn.Config(http=…)` takes, bound to one worker's data plane."""
    environment = Environment(plane.fast_routes, options, plane.statistics.count_code)
    return type("WorkerProtocol", (Connection,), {"environment": environment})
