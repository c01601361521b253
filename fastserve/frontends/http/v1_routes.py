"""Routes of TensorFlow Serving's REST API, which Vertex AI clients send too."""

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fastserve.dataplane import DataPlane, Served
from fastserve.errors import ModelNotFound, VersionNotFound
from fastserve.frontends.http.answers import (
    body_response,
    header_timeout_us,
    json_response,
    unless_disconnected,
)
from fastserve.frontends.http.body import read_body
from fastserve.frontends.http.counting import counted
from fastserve.frontends.http.options import HttpOptions
from fastserve.frontends.http.v1_codec import check_rows, decode

_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNLOADING": "UNLOADING", "UNAVAILABLE": "END"}


class _NameBeforeVerb(StringConvertor):
    """A path segment up to the colon that starts a verb, as in `flights:predict`."""

    regex = "[^/:]+"


register_url_convertor("name", _NameBeforeVerb())


class V1Routes:
    """The endpoints under /v1 over one data plane. Event-loop thread only."""

    def __init__(self, plane: DataPlane, options: HttpOptions) -> None:
        self._plane = plane
        self._options = options

    def routes(self) -> list[BaseRoute]:
        """List the routes; the first that matches wins."""
        model = "/v1/models/{model:name}"
        predict = counted(self._plane, self.predict)
        # TensorFlow Serving's labels are aliases here; a version may be named by either.
        paths = (model, model + "/versions/{version:name}", model + "/labels/{version:name}")
        return [
            *(Route(path + ":predict", predict, methods=["POST"]) for path in paths),
            *(Route(path, self.status, methods=["GET"]) for path in paths),
        ]

    async def predict(self, request: Request, served: Served) -> Response:
        """POST …:predict: rows or columns in, rows or columns out."""
        options = self._options
        timeout_us = header_timeout_us(request)
        body = await read_body(request, options.max_body_bytes)
        wanted = decode(body, served.signature, options.max_json_depth)
        del body
        work = served.infer(wanted.inputs, served.deadline_ns(timeout_us))
        outputs = await unless_disconnected(request, work)
        if not wanted.columnar:
            check_rows(outputs, served.signature, wanted.rows)
        encoded = served.encoder.predict_body(outputs, wanted.columnar)
        return body_response(request, encoded, options.compress_min_bytes)

    async def status(self, request: Request) -> Response:
        """GET /v1/models/{m}[/versions/{v}]: the state of every version."""
        model, version = request.path_params["model"], request.path_params.get("version")
        entries = [entry for entry in self._plane.index() if entry.name == model]
        if not entries:
            raise ModelNotFound(model)
        if version is not None:
            version = self._plane.aliases(model).get(version, version)
        chosen = [entry for entry in entries if version in (None, entry.version)]
        if not chosen:
            raise VersionNotFound(model, str(version))
        statuses = [
            {
                "version": entry.version,
                "state": _STATES.get(entry.state, "UNKNOWN"),
                "status": {
                    "error_code": "UNKNOWN" if entry.reason else "OK",
                    "error_message": entry.reason,
                },
            }
            for entry in reversed(chosen)
        ]
        # TensorFlow Serving has the statuses only; clients of KServe look for the other two.
        ready = any(entry.state == "READY" for entry in chosen)
        return json_response({"name": model, "ready": ready, "model_version_status": statuses})
