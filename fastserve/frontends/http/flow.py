"""When the socket of a connection is read: what a client sends ahead is bounded."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

_PENDING_LIMIT = 64 * 2**10


class Flow(FlowControl):
    """Reads only while little waits to be looked at, and while the client reads what it is sent."""

    def __init__(self, transport: asyncio.Transport, pending: bytearray) -> None:
        super().__init__(transport)
        self._pending = pending

    def hold_back(self) -> None:
        """Read no more if much waits."""
        if len(self._pending) > _PENDING_LIMIT:
            self.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless that would only make more wait."""
        if len(self._pending) <= _PENDING_LIMIT and not self.write_paused:
            super().resume_reading()
