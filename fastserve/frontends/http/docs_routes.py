"""The OpenAPI description and the page that shows it, which needs nothing from the network."""

from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from fastserve.dataplane import DataPlane
from fastserve.errors import NotReady
from fastserve.frontends.http.answers import body_response
from fastserve.frontends.http.openapi import document
from fastserve.frontends.http.options import HttpOptions

_FILES = {
    "/docs": ("docs.html", "text/html"),
    "/docs/docs.css": ("docs.css", "text/css"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
}

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class DocsRoutes:
    """/openapi.json and /docs over one data plane. Event-loop thread only."""

    def __init__(self, plane: DataPlane, options: HttpOptions) -> None:
        self._plane = plane
        self._options = options

    def routes(self) -> list[BaseRoute]:
        """List the routes."""
        return [
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/v2/docs", self.redirect, methods=["GET"]),
            *(Route(path, _file(*parts), methods=["GET"]) for path, parts in _FILES.items()),
        ]

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: what serves at this moment."""
        served = []
        for name in self._plane.models():
            try:
                served.append(self._plane.resolve(name))
            except NotReady:
                continue
        return body_response(request, orjson.dumps(document(served)), self._options.compress_min_bytes)

    async def redirect(self, _: Request) -> Response:
        """GET /v2/docs, where MLServer has its page."""
        return RedirectResponse("/docs")


def _file(name: str, content_type: str) -> Any:
    body = files("fastserve.frontends.http").joinpath("static", name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(body, 200, _HEADERS, content_type)

    return serve
