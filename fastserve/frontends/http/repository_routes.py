"""Routes of Triton's repository extension: what there is, and loading and unloading where that is allowed."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fastserve.dataplane import DataPlane
from fastserve.errors import InvalidRequest
from fastserve.frontends.http.answers import json_response, require_token
from fastserve.frontends.http.body import read_body
from fastserve.frontends.http.errors import Unsupported
from fastserve.frontends.http.json_text import loads
from fastserve.frontends.http.options import HttpOptions
from fastserve.lifecycle import LoadControl

_MAX_BODY_BYTES = 64 * 1024
_OFF = (
    "models are loaded and unloaded by what is in the registry directory (fastserve models publish, alias, "
    "load, unload); loading over HTTP is switched off (http.load_control)"
)


class RepositoryRoutes:
    """The endpoints under /v2/repository over one data plane. Event-loop thread only."""

    def __init__(self, plane: DataPlane, options: HttpOptions, control: LoadControl | None) -> None:
        self._plane = plane
        self._options = options
        self._control = control if options.load_control else None

    def routes(self) -> list[BaseRoute]:
        """List the routes, each with and without the name of a repository."""
        endpoints = {
            "/index": self.index,
            "/models/{model}/load": self.load,
            "/models/{model}/unload": self.unload,
        }
        return [
            Route(prefix + path, endpoint, methods=["POST"])
            for path, endpoint in endpoints.items()
            for prefix in ("/v2/repository", "/v2/repository/{repository}")
        ]

    async def index(self, request: Request) -> Response:
        """POST /v2/repository/index: every version with its state, or `{"ready": true}` those that serve."""
        wanted = await self._body(request, self._options.max_body_bytes)
        only_ready = wanted.get("ready", False) if isinstance(wanted, dict) else None
        if not isinstance(only_ready, bool):
            raise InvalidRequest(
                "the body must be a JSON object with `ready` true or false, or empty", "ready"
            )
        entries = self._plane.index()
        return json_response([one for one in entries if one.state == "READY" or not only_ready])

    async def load(self, request: Request) -> Response:
        """POST …/models/{m}/load: serve a model, on every worker; answered when this one does."""
        control = self._allowed(request)
        await self._parameters(request, frozenset())
        await control.load(request.path_params["model"])
        return Response(status_code=200)

    async def unload(self, request: Request) -> Response:
        """POST …/models/{m}/unload: serve a model no more; what came before is answered."""
        control = self._allowed(request)
        await self._parameters(request, frozenset({"unload_dependents"}))
        await control.unload(request.path_params["model"])
        return Response(status_code=200)

    def _allowed(self, request: Request) -> LoadControl:
        if self._control is None:
            raise Unsupported(_OFF)
        require_token(request, self._options.admin_token)
        return self._control

    async def _parameters(self, request: Request, known: frozenset[str]) -> None:
        """Refuse what would be ignored: a configuration or a model file in the request."""
        wanted = await self._body(request, _MAX_BODY_BYTES)
        parameters = wanted.get("parameters", {}) if isinstance(wanted, dict) else None
        if not isinstance(parameters, dict):
            raise InvalidRequest("the body must be an object with an object `parameters`, or empty", "body")
        for name in parameters.keys() - known:
            raise InvalidRequest(
                f"parameter '{name[:64]}' is not supported: a model is loaded as the registry has it",
                f"parameters.{name[:64]}",
            )

    async def _body(self, request: Request, limit_bytes: int) -> Any:
        body = await read_body(request, limit_bytes)
        return loads(body, self._options.max_json_depth) if body.strip() else {}
