"""A span for every request that asks a model: W3C trace context in and out, attributes as HTTP has them.

Imported only when tracing is on.
"""

import re
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

_VERBS = ("/infer", ":predict")
_MAX_PATH = 1_024


class TracedApp:
    """The application in a SERVER span, where the address is one that infers. Event-loop thread only."""

    def __init__(self, app: Starlette, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer
        self._context = TraceContextTextMapPropagator()
        self._routes: list[tuple[re.Pattern[str], str]] = [
            (route.path_regex, route.path_format)
            for route in app.routes
            if isinstance(route, Route) and route.path.endswith(_VERBS)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._route(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        span = self._tracer.start_span(
            f"POST {route}",
            self._context.extract(_carrier(scope["headers"]), Context()),
            SpanKind.SERVER,
            {
                "http.request.method": "POST",
                "http.route": route,
                "url.path": scope["path"][:_MAX_PATH],
                "url.scheme": scope["scheme"],
            },
        )
        header = _traceparent(span)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell_status(span, message["status"])
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self._app(scope, receive, sending)
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise

    def _route(self, scope: Scope) -> str | None:
        if scope["type"] == "http" and scope["method"] == "POST":
            for pattern, route in self._routes:
                if pattern.match(scope["path"]):
                    return route
        return None


def _carrier(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Trace context as it came; more than one traceparent is none."""
    parents = [value.decode("latin-1") for name, value in headers if name == b"traceparent"]
    states = [value.decode("latin-1") for name, value in headers if name == b"tracestate"]
    return {"traceparent": parents, "tracestate": states} if len(parents) == 1 else {}


def _traceparent(span: Span) -> tuple[bytes, bytes]:
    context = span.get_span_context()
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    return b"traceparent", f"00-{ids}-{context.trace_flags:02x}".encode()


def _tell_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
