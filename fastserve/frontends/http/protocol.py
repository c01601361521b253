"""The uvicorn protocol with the fast path: plain infer requests never see Starlette.

`fastserve_core.lane.Exchange` takes every read that is exactly one plain request by itself. This class sees
the rest: requests in pieces or in a row, requests to hand over, answers that are compressed, last or errors.
"""

import asyncio
from typing import Any

from fastserve.dataplane import DataPlane
from fastserve.frontends.http.compression import choose, compress, encoding_headers
from fastserve.frontends.http.connection import Environment, GatedProtocol, Phase
from fastserve.frontends.http.errors import answer, log_failure, plain
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.raw import recompress
from fastserve_core.lane import Exchange, Lane
from fastserve_core.wire.head import BAD, FAST, INCOMPLETE


class FastProtocol(GatedProtocol):
    """One connection. Subclassed per worker by `protocol_class`, which sets `environment`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._exchange = Exchange(self._env.shared, self, self.server_state)
        self._lane: Lane | None = None
        self._body = bytearray()
        self._body_stop = 0
        # The transport looks this up once per connection: bytes go to the compiled half first.
        self.data_received = self._exchange.data_received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._exchange.connect(transport.write)
        if self._env.stopping:
            self.shutdown()

    def take(self, data: bytes) -> None:
        """Bytes that the compiled half did not take as one plain request."""
        phase = self._phase
        if phase == Phase.HEAD and self.flow.write_paused:
            self._hold(data)
        elif phase == Phase.HEAD:
            if self._pending:
                self._pending += data
                data = self._take_pending()
            self._begin(data)
        elif phase == Phase.ORDINARY:
            self._feed(data)
        elif phase == Phase.BODY:
            self._collect(data)
        elif phase == Phase.WAITING:
            self._hold(data)

    def _begin(self, data: bytes) -> None:
        head = self._head
        verdict = head.scan(data)
        if verdict == INCOMPLETE:
            if not self._received:
                self._enter_phase(Phase.HEAD)
            self._received = len(data)
            self._keep(data)
            return
        if verdict == BAD:
            self._refuse(plain(head.status, head.reason))
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

    # -- what the compiled half asks for ------------------------------------------------------------------

    def compressed(self, response: bytes) -> bytes:
        """The answer as the client's Accept-Encoding wants it."""
        encoding = choose(self._exchange.accept_encoding)
        body = response[response.index(b"\r\n\r\n") + 4 :]
        if encoding is None or len(body) < self._env.options.compress_min_bytes:
            return response
        headers = self._env.shared.default_headers(self.server_state.default_headers)
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
        self._write_error(parts, closing=self._closing)
        self._exchange.settle()

    def answered(self) -> None:
        """The fast request is answered and something is to be done: close, or go on with pending bytes."""
        if self._closing:
            self.transport.close()
        else:
            self._next()


def protocol_class(plane: DataPlane, options: HttpOptions) -> type[FastProtocol]:
    """Make the class that `uvicorn.Config(http=…)` takes, bound to one worker's data plane."""
    environment = Environment(plane.fast_routes, options, plane.statistics.count_code)
    return type("WorkerProtocol", (FastProtocol,), {"environment": environment})
