"""The control plane over HTTP: snapshots in; reports, figures and metrics out."""

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from fastserve import __version__
from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.hosts import LocalNames
from fastserve.controlplane.metrics import render
from fastserve.controlplane.service import Control
from fastserve.controlplane.spans import parse_since
from fastserve.errors import InvalidRequest
from fastserve.frontends.http.answers import body_response, json_response, require_token
from fastserve.frontends.http.body import check_length, content_encoding, read_body
from fastserve.frontends.http.errors import HANDLERS, error_body
from fastserve.monitoring.snapshot import MAX_SNAPSHOT_BYTES, Snapshot, read_snapshot
from fastserve.registry import parse_version

MAX_WINDOWS = 1_000
"""Windows by number of rows that are given at once."""

_LIMIT_DIGITS = 9
_PIECE_S = 30.0
"""Of a snapshot: however long a slow line takes for all of them."""
_PARSE_HERE_BYTES = 256 * 1024
"""A larger snapshot is parsed in a thread, so that nobody else waits for it."""
_COMPRESS_MIN_BYTES = 1_024
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(control: Control, token: str | None, local: bool = False) -> Starlette:
    """Make the API over one control plane.

    Parameters
    ----------
    token
        What snapshots must carry, as `Authorization: Bearer`; an empty one refuses all of them. None on a
        socket whose file only this user may open.
    local
        It listens on a loopback address.
    """
    api = _Api(control, token)
    routes = [
        Route("/v2/control/snapshots", api.take_in, methods=["POST"]),
        Route("/v2/control/health", api.health),
        Route("/v2/control/models", api.models),
        Route("/v2/control/models/{model}/report", api.report),
        Route("/v2/control/models/{model}/windows", api.by_count),
        Route("/metrics", api.metrics),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(LocalNames)] if local else [],
        exception_handlers={**HANDLERS, StoreUnavailable: _on_away},
    )
    app.router.redirect_slashes = False  # which would send people wherever their Host header says
    return app


class _Api:
    """The endpoints. Event-loop thread only."""

    def __init__(self, control: Control, token: str | None) -> None:
        self._control = control
        self._token = token

    async def take_in(self, request: Request) -> Response:
        """POST /v2/control/snapshots: `{"number": n, "wanted": [digests]}` once it is committed."""
        if self._token is not None:
            require_token(request, self._token)
        check_length(request, MAX_SNAPSHOT_BYTES)
        declared = request.headers.get("content-length")
        known = declared is not None and content_encoding(request) is None
        intake = self._control.intake
        with intake.room(int(declared or 0) if known else MAX_SNAPSHOT_BYTES):
            try:
                snapshot = await _read(request)
            except InvalidRequest as error:
                if error.field == "format":
                    return _refusal(409, str(error))
                raise
            except TimeoutError:
                return _refusal(408, f"no more of the body arrived within {_PIECE_S:.0f} s")
            if not self._control.ready:
                raise StoreUnavailable(intake.trouble)
            answer = await intake.submit(snapshot)
        if answer.refused is not None:
            raise answer.refused
        return json_response({"number": answer.number, "wanted": answer.wanted})

    async def health(self, _: Request) -> Response:
        """GET /v2/control/health: 200 while the database can be had, else 503 with the reason."""
        trouble = self._control.intake.trouble
        content = {
            "database": trouble or "ok",
            "release": __version__,
            "workers": len(self._control.fleet.workers),
        }
        return json_response(content, 503 if trouble else 200)

    async def models(self, _: Request) -> Response:
        """GET /v2/control/models: every version that was heard of, and how many of its rows were watched."""
        return json_response({"models": self._control.overview()})

    async def report(self, request: Request) -> Response:
        """GET /v2/control/models/{model}/report: live rows of one version beside its reference."""
        since_ms = parse_since(request.query_params.get("since", "24h"))
        found = await self._control.report(*_which(request), since_ms)
        return Response(found.model_dump_json(), media_type="application/json")

    async def by_count(self, request: Request) -> Response:
        """GET /v2/control/models/{model}/windows: the last windows by number of rows."""
        limit = request.query_params.get("limit", "60")
        plain = limit.isdecimal() and len(limit) <= _LIMIT_DIGITS
        if not plain or not 1 <= int(limit) <= MAX_WINDOWS:
            raise InvalidRequest(f"limit must be 1 to {MAX_WINDOWS}", "limit")
        found = await self._control.by_count(*_which(request), int(limit))
        return Response(found.model_dump_json(), media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: for Prometheus, which asks for gzip."""
        page = render(self._control.fleet, self._control.options)
        return body_response(request, page, _COMPRESS_MIN_BYTES, media_type=_METRICS_TYPE)


def _refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Answer what is right another time, for which the front ends' table has no error."""
    return Response(error_body(sentence), status, headers, "application/json")


async def _on_away(_: Request, error: Exception) -> Response:
    """Answer while the database is away."""
    return _refusal(503, str(error), {"retry-after": "1"})


def _which(request: Request) -> tuple[str, int | None, str | None]:
    """Model, and version or alias where one is named."""
    query, version = request.query_params, None
    if "version" in query:
        version = parse_version(query["version"])
        if version is None:
            raise InvalidRequest("version must be the number of a version", "version")
    return request.path_params["model"], version, query.get("alias")


async def _read(request: Request) -> Snapshot:
    async with asyncio.timeout(_PIECE_S) as patience:

        async def receive() -> Message:
            message = await request.receive()
            patience.reschedule(asyncio.get_running_loop().time() + _PIECE_S)
            return message

        body = await read_body(Request(request.scope, receive), MAX_SNAPSHOT_BYTES)
    if len(body) <= _PARSE_HERE_BYTES:
        return read_snapshot(body)
    return await asyncio.to_thread(read_snapshot, body)
