"""Head and body of an ordinary answer leave in one write.

Two writes cost a second packet, and with delayed ACKs up to 40 ms.
"""

import asyncio
from typing import Any


class OneWrite:
    """A transport for one answer of uvicorn's: the head waits for the first piece of the body."""

    def __init__(self, transport: asyncio.Transport, cycle: Any) -> None:
        self._transport = transport
        self._cycle = cycle
        self._head: bytes | None = None
        self._head_seen = False

    def write(self, data: bytes) -> None:
        """Send `data`, or keep it when it is the head of the answer."""
        if self._head is not None:
            data, self._head = self._head + data, None
        elif self._cycle.response_started and not self._head_seen:
            self._head_seen = True
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that no body followed."""
        if self._head is not None:
            self._transport.write(self._head)
            self._head = None

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._transport.is_closing()
