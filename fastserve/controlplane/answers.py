"""What the control plane's API answers, as JSON: errors by the front ends' own table, and a few more."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from fastserve.controlplane.errors import StoreUnavailable
from fastserve.frontends.http.errors import HANDLERS as COMMON
from fastserve.frontends.http.errors import error_body


def json_response(content: object, status: int = 200) -> Response:
    """Render JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def refusal(status: int, sentence: str) -> Response:
    """Answer a snapshot that the worker keeps: of another format, or one that did not arrive in time."""
    return Response(error_body(sentence), status, media_type="application/json")


async def _on_away(_: Request, error: Exception) -> Response:
    """Answer while the database is away: the same request is right later."""
    return Response(error_body(str(error)), 503, {"retry-after": "1"}, "application/json")


HANDLERS = {**COMMON, StoreUnavailable: _on_away}
