"""Routes of the Open Inference Protocol and of Triton's extensions to it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fastserve import __version__
from fastserve.dataplane import DataPlane, Served
from fastserve.frontends.http import triton
from fastserve.frontends.http.answers import (
    body_response,
    header_json_length,
    header_timeout_us,
    json_response,
    unless_disconnected,
)
from fastserve.frontends.http.body import read_body
from fastserve.frontends.http.counting import counted
from fastserve.frontends.http.errors import Unsupported
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.v2_codec import decode

EXTENSIONS = ["binary_tensor_data", "model_configuration", "parameters", "statistics"]


class V2Routes:
    """The endpoints under /v2 over one data plane. Event-loop thread only."""

    def __init__(self, plane: DataPlane, options: HttpOptions) -> None:
        self._plane = plane
        self._options = options

    def routes(self) -> list[BaseRoute]:
        """List the routes; the first that matches wins, so the busiest comes first."""
        return [
            *_model("/infer", counted(self._plane, self.infer), "POST"),
            Route("/v2", self.server, methods=["GET"]),
            Route("/v2/health/live", self.live, methods=["GET"]),
            Route("/v2/health/ready", self.ready, methods=["GET"]),
            Route("/v2/models", self.list_models, methods=["GET"]),
            Route("/v2/models/stats", self.stats, methods=["GET"]),
            *_model("", self.metadata),
            *_model("/ready", self.model_ready),
            *_model("/config", self.config),
            *_model("/stats", self.stats),
            *self._unsupported_routes(),
        ]

    def _unsupported_routes(self) -> list[BaseRoute]:
        memory = "shared memory is not supported; send tensors in the request"
        trace = "trace settings are not supported; the server's configuration has them under `tracing`"
        texts = {
            "/v2/systemsharedmemory/{rest:path}": memory,
            "/v2/cudasharedmemory/{rest:path}": memory,
            "/v2/trace/setting": trace,
            "/v2/models/{model}/trace/setting": trace,
            "/v2/logging": "logging is set up by the server's configuration, not over HTTP",
        }
        return [Route(path, _refusal(text), methods=["GET", "POST"]) for path, text in texts.items()]

    # -- about the server ---------------------------------------------------------------------------------

    async def server(self, _: Request) -> Response:
        """GET /v2: who answers, and what it can do."""
        loading = "model_repository" if self._options.load_control else "model_repository(index)"
        extensions = sorted([*EXTENSIONS, loading])
        return json_response({"name": "fastserve", "version": __version__, "extensions": extensions})

    async def live(self, _: Request) -> Response:
        """GET /v2/health/live: the process answers."""
        return json_response({"live": True})

    async def ready(self, _: Request) -> Response:
        """GET /v2/health/ready: every model has a version that serves."""
        ready = self._plane.ready()
        return json_response({"ready": ready}, 200 if ready else 503)

    async def list_models(self, _: Request) -> Response:
        """GET /v2/models: names and ready versions."""
        plane = self._plane
        return json_response(
            {"models": [{"name": name, "versions": plane.versions(name)} for name in plane.models()]}
        )

    # -- about a model ------------------------------------------------------------------------------------

    def _served(self, request: Request) -> Served:
        return self._plane.resolve(request.path_params["model"], request.path_params.get("version"))

    async def metadata(self, request: Request) -> Response:
        """GET /v2/models/{m}[/versions/{v}]: names, datatypes and shapes."""
        served = self._served(request)
        return json_response(triton.metadata(served, self._plane.versions(served.name)))

    async def model_ready(self, request: Request) -> Response:
        """GET …/ready: 200 when this version serves."""
        return json_response({"name": self._served(request).name, "ready": True})

    async def config(self, request: Request) -> Response:
        """GET …/config: the model as a Triton ModelConfig."""
        return json_response(triton.config(self._served(request)))

    async def stats(self, request: Request) -> Response:
        """GET …/stats: counters of one version, of a model's versions, or of all."""
        plane, parameters = self._plane, request.path_params
        if "version" in parameters:
            served = [self._served(request)]
        else:
            names = [parameters["model"]] if "model" in parameters else plane.models()
            served = [plane.resolve(name, version) for name in names for version in plane.versions(name)]
        return json_response({"model_stats": [triton.statistics(one) for one in served]})

    # -- inference ----------------------------------------------------------------------------------------

    async def infer(self, request: Request, served: Served) -> Response:
        """POST …/infer: what the compiled path hands over, or everything when it is off."""
        json_length, timeout_us = header_json_length(request), header_timeout_us(request)
        options = self._options
        body = await read_body(request, options.max_body_bytes)
        wanted = decode(body, json_length, served.signature, options.max_json_depth)
        del body
        work = served.infer(wanted.inputs, served.deadline_ns(wanted.timeout_us or timeout_us))
        outputs = await unless_disconnected(request, work)
        # A model that does not keep rows apart runs alone, and its outputs are answered as they came.
        rows = wanted.rows if served.max_batch_rows else -1
        encoded, length = served.encoder.body(outputs, 0, rows, wanted.id_json, wanted.selection)
        return body_response(request, encoded, options.compress_min_bytes, length)


def _model(suffix: str, endpoint: Any, method: str = "GET") -> list[BaseRoute]:
    """With and without a version in the address."""
    paths = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [Route(path + suffix, endpoint, methods=[method]) for path in paths]


def _refusal(text: str) -> Any:
    async def refuse(_: Request) -> Response:
        raise Unsupported(text)

    return refuse
