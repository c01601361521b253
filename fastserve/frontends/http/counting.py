"""Counts the status of every answer to a prediction, at the version that gave it."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from fastserve.dataplane import DataPlane, Served
from fastserve.errors import NotReady
from fastserve.frontends.http.errors import answer

CLIENT_GONE = 499
"""The status, as nginx has it, of a request whose client did not wait for the answer."""

REFUSED = "fastserve.refused"
"""In the extensions of a request's scope: the connection has answered, and counted, it while it arrived."""

LEFT = "fastserve.left"
"""In the extensions of a request's scope: its client is gone."""

Endpoint = Callable[[Request, Served], Awaitable[Response]]


def counted(plane: DataPlane, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint that a version answers; the version is found, held meanwhile, and counts."""

    async def run(request: Request) -> Response:
        count = plane.statistics.count_code
        try:
            served = plane.resolve(request.path_params["model"], request.path_params.get("version"))
            count = served.stats.count_code
            with served.held():
                response = await endpoint(request, served)
        except asyncio.CancelledError:
            marks = request.scope.get("extensions", {})
            if REFUSED in marks:
                raise
            if LEFT in marks:
                count(CLIENT_GONE)
                raise
            # The server stops and waits no longer. The fast path says the same.
            error = NotReady(served.name, served.version, "it is being unloaded")
            count(answer(error).status)
            raise error from None
        except Exception as error:
            count(answer(error).status)
            raise
        count(response.status_code)
        return response

    return run
