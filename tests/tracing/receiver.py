"""A real OTLP/HTTP receiver: it decodes what is posted and keeps the spans."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

LIMIT_S = 30.0


@dataclass(frozen=True)
class Seen:
    """One span as it came over the wire; identifiers in hex, "" for no parent."""

    name: str
    kind: int
    trace: str
    span: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    error: str | None
    state: str
    resource: dict[str, Any]


class Receiver:
    """The spans that have come so far."""

    def __init__(self) -> None:
        self._spans: list[Seen] = []
        self._more = threading.Condition()
        self.paths: set[str] = set()
        self.url = ""

    @property
    def spans(self) -> list[Seen]:
        with self._more:
            return list(self._spans)

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def take(self, path: str, body: bytes) -> None:
        spans = list(_decode(body))
        with self._more:
            self.paths.add(path)
            self._spans += spans
            self._more.notify_all()

    def wait(self, wanted: Callable[[Seen], bool], count: int = 1) -> list[Seen]:
        """Wait until so many spans that fit have come."""
        give_up_s = time.monotonic() + LIMIT_S
        with self._more:
            while True:
                found = [span for span in self._spans if wanted(span)]
                if len(found) >= count:
                    return found
                left_s = give_up_s - time.monotonic()
                assert left_s > 0, f"{len(found)} of {count} spans came: {self._spans}"
                self._more.wait(left_s)


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in attributes}


def _decode(body: bytes) -> Iterator[Seen]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _values(span.attributes),
                    [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
                    span.trace_state,
                    _values(resource.resource.attributes),
                )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
