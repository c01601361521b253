"""Many connections that ask one model without pause, in a process of its own, and check every answer.

`python -m tests.soak.client PORT MODEL CONNECTIONS`; a word on standard input begins a new phase, the end of
input stops everything. What was seen is printed as JSON.
"""

import asyncio
import json
import re
import sys
import threading
import time
from array import array
from collections import Counter
from typing import Any, cast

import uvloop

SLOT_S = 0.02
"""Answers are counted by version and by when their request was sent, this coarsely."""

_BODY = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.0,2.0,3.0]}]}'
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_ANSWER = re.compile(rb'"model_version":"([0-9]+)".*"data":\[([0-9.eE+-]+),')
_MOST_ERRORS = 20


class Seen:
    """What all connections together have seen."""

    def __init__(self) -> None:
        self.phase = "start"
        self.latencies: dict[str, array[int]] = {}
        self.slots: Counter[tuple[int, int]] = Counter()
        self.factors: dict[int, float] = {}
        self.failed = 0
        self.errors: list[str] = []
        self.stopping = False

    def answered(self, sent_s: float, version: int, factor: float) -> None:
        """A good answer has come."""
        took_us = int((time.monotonic() - sent_s) * 1e6)
        self.latencies.setdefault(self.phase, array("q")).append(took_us)
        self.slots[version, int(sent_s / SLOT_S)] += 1
        if self.factors.setdefault(version, factor) != factor:
            self.error(f"version {version} multiplied by {factor} and by {self.factors[version]}")

    def error(self, text: str) -> None:
        """Something is wrong with an answer, or there is none."""
        if not self.stopping:
            self.failed += 1
            if len(self.errors) < _MOST_ERRORS:
                self.errors.append(f"{time.monotonic():.3f}: {text}")

    def report(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "phases": {name: _quantiles(taken) for name, taken in self.latencies.items()},
            "slots": [[version, slot, count] for (version, slot), count in sorted(self.slots.items())],
            "factors": self.factors,
            "failed": self.failed,
            "errors": self.errors,
        }


def _quantiles(taken: "array[int]") -> dict[str, float]:
    ordered = sorted(taken)
    at = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    values = {name: float(ordered[int(q * (len(ordered) - 1))]) for name, q in at.items()}
    return {"answers": len(ordered), **values, "max_us": ordered[-1]}


class Asker(asyncio.Protocol):
    """One connection: the next request goes out when the answer is in."""

    def __init__(self, seen: Seen, request: bytes) -> None:
        self._seen = seen
        self._request = request
        self._received = b""
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._sent_s = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, gap, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not gap or (length is not None and len(body) < int(length[1])):
            return
        self._received = b""
        answer = _ANSWER.search(body)
        if head.startswith(b"HTTP/1.1 200 ") and answer is not None:
            self._seen.answered(self._sent_s, int(answer[1]), float(answer[2]))
        else:
            self._seen.error(f"{head[:60]!r} {body[:200]!r}")
        if self._seen.stopping:
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.error(f"the connection was closed in the middle of a request ({exc})")


async def ask(port: int, model: str, connections: int) -> Seen:
    """Ask until standard input ends."""
    seen, loop = Seen(), asyncio.get_running_loop()
    done = asyncio.Event()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: storm\r\nContent-Length: {len(_BODY)}\r\n\r\n"
    request = head.encode() + _BODY

    def follow() -> None:
        for line in sys.stdin:
            seen.phase = line.strip()
        loop.call_soon_threadsafe(done.set)

    for _ in range(connections):
        await loop.create_connection(lambda: Asker(seen, request), "127.0.0.1", port)
    print("asking", flush=True)
    threading.Thread(target=follow, daemon=True).start()
    await done.wait()
    seen.stopping = True
    await asyncio.sleep(0.2)
    return seen


if __name__ == "__main__":
    found = uvloop.run(ask(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    print(json.dumps(found.report()))
