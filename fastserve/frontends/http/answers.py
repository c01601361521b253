"""What every route shares: what headers say, JSON out, compression, a client that leaves."""

import asyncio
import hmac
from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fastserve.errors import InvalidRequest, Unauthorized
from fastserve.frontends.http.compression import choose, compress, encoding_headers

T = TypeVar("T")

_MAX_TIMEOUT_MS = 10**9


def json_response(value: object, status: int = 200) -> Response:
    """Answer a small JSON document."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def body_response(
    request: Request,
    body: bytes,
    compress_min_bytes: int,
    json_length: int = -1,
    media_type: str = "application/json",
) -> Response:
    """Answer an encoded body; headers in the order that the compiled path writes them.

    `json_length` is -1 when the body is of `media_type`, else the bytes of JSON before the binary tensors.
    """
    headers: dict[str, str] = {}
    values = request.headers.getlist("accept-encoding")
    if values and len(body) >= compress_min_bytes:
        encoding = choose(", ".join(values).encode("latin-1"))
        if encoding is not None:
            body = compress(body, encoding)
            headers = encoding_headers(encoding)
    if json_length >= 0:
        headers["inference-header-content-length"] = str(json_length)
    return Response(body, 200, headers, media_type if json_length < 0 else "application/octet-stream")


def header_number(request: Request, name: str, low: int, high: int) -> int | None:
    """Read a header that is one plain number; None when absent, InvalidRequest for anything else."""
    values = request.headers.getlist(name)
    if not values:
        return None
    text = values[0]
    if len(values) > 1:
        raise InvalidRequest(f"{name} is given {len(values)} times", name)
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and low <= int(text) <= high):
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}", name)
    return int(text)


def header_json_length(request: Request) -> int | None:
    """Bytes of JSON before the binary tensors; None: the body is all JSON."""
    return header_number(request, "Inference-Header-Content-Length", 0, 2**63 - 1)


def header_timeout_us(request: Request) -> int | None:
    """Read the time that the client still waits, in µs."""
    timeout_ms = header_number(request, "X-Request-Timeout-Ms", 1, _MAX_TIMEOUT_MS)
    return None if timeout_ms is None else timeout_ms * 1_000


def require_token(request: Request, token: str) -> None:
    """Raise Unauthorized unless the request carries the token; in constant time."""
    values = request.headers.getlist("authorization")
    scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    if not token or scheme.lower() != "bearer" or not right:
        raise Unauthorized(given=bool(token) and scheme.lower() == "bearer" and bool(given.strip()))


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and cancel it when the client goes away first, so that its rows leave the queue.

    Raises
    ------
    ClientDisconnect
        The client went away; `work` is cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        await _end(task)
        raise
    if task.done():
        return task.result()
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        await _end(task, watcher)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and take what they end with, of which asyncio would write a traceback otherwise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client is gone; the body has been read to its end before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
