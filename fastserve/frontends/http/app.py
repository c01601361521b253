"""Builds the Starlette application: the ordinary way of every request, and the only way of most."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastserve.dataplane import DataPlane
from fastserve.frontends.http.answers import json_response
from fastserve.frontends.http.docs_routes import DocsRoutes
from fastserve.frontends.http.errors import HANDLERS
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.repository_routes import RepositoryRoutes
from fastserve.frontends.http.v1_routes import V1Routes
from fastserve.frontends.http.v2_routes import V2Routes
from fastserve.lifecycle import LoadControl


def create_app(plane: DataPlane, options: HttpOptions, control: LoadControl | None = None) -> Starlette:
    """Build the application over one data plane; `control` loads and unloads where options allow it."""

    async def healthz(_: Request) -> Response:
        """GET /healthz: the process answers; whether every model serves is in the body."""
        return json_response({"live": True, "ready": plane.ready()})

    async def root(_: Request) -> Response:
        """GET /: KServe's v1 clients ask here whether the server lives, and people where they are."""
        return json_response({"status": "alive", **({"docs": "/docs"} if options.docs else {})})

    routes = [
        Route("/", root, methods=["GET"]),
        *V2Routes(plane, options).routes(),
        *V1Routes(plane, options).routes(),
        *RepositoryRoutes(plane, options, control).routes(),
        Route("/healthz", healthz, methods=["GET"]),
        *(DocsRoutes(plane, options).routes() if options.docs else []),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return app
