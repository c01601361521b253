"""A connection to the control plane whose requests have to begin in time, and to keep their heads small."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_S = 30.0
"""From a connection's or a request's first moment to the end of the request's head."""

MAX_BESIDE_BYTES = 2**20
"""Of a request, beside its body: head, trailers, what frames chunks."""
_HEADER_BYTES = 256
"""What a header takes in memory, however short it is."""


class Connection(HttpToolsProtocol):
    """uvicorn's, which waits for a head for ever, whatever its size."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._patience: asyncio.TimerHandle | None = None
        self._beside_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece in; between requests it is of the next head, or of a body that nobody reads."""
        self._beside_bytes += len(data)
        super().data_received(data)
        if self._beside_bytes > MAX_BESIDE_BYTES and not self.transport.is_closing():
            self.send_400_response("The request is too large beside its body.")
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of a head is there, or of trailers."""
        self._beside_bytes += _HEADER_BYTES
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        self._beside_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        self._beside_bytes = 0
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
