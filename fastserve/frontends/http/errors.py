"""The one table from the error tree to HTTP status numbers, and the JSON body that every error has."""

import logging
from dataclasses import dataclass

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fastserve.errors import (
    DeadlineExceeded,
    FastserveError,
    InvalidRequest,
    NotFound,
    NotReady,
    PayloadTooLarge,
    QueueFull,
    Unauthorized,
    UnsupportedEncoding,
)
from fastserve.log import Seldom

log = logging.getLogger("fastserve.http")
_seldom = Seldom()


class Unsupported(FastserveError):
    """Something that the protocol has and this server does not, on purpose; the text says what instead."""


_STATUS: dict[type, int] = {
    InvalidRequest: 400,
    PayloadTooLarge: 413,
    UnsupportedEncoding: 415,
    Unauthorized: 401,
    NotFound: 404,
    NotReady: 503,
    QueueFull: 503,
    DeadlineExceeded: 504,
    Unsupported: 501,
    FastserveError: 500,
}
"""The nearest class in the error's own inheritance counts; outside the tree it is 500 without details."""

_REFUSALS = (InvalidRequest, NotFound, QueueFull, DeadlineExceeded, Unsupported)
"""What no operator needs to look at: the client's doing, or overload."""

_TEXT_LIMIT = 200
_SENTENCE_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as HTTP: `headers` go before content-length and content-type."""

    status: int
    headers: dict[str, str]
    body: bytes


def quoted(text: object) -> str:
    """Text of the user's in an error sentence: printable, in quotes, and never long."""
    return f"'{printable(str(text))}'"


def printable(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Cut text of the user's, and put question marks for what cannot be seen."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def as_json(value: object) -> str:
    """Write a value of the user's as it stood in the request: printable and never long."""
    return printable(orjson.dumps(value).decode())


def error_body(sentence: str) -> bytes:
    """Render `{"error": sentence}`."""
    return orjson.dumps({"error": sentence[:_SENTENCE_LIMIT].encode("utf-8", "replace").decode()})


def plain(status: int, sentence: str) -> ErrorAnswer:
    """Give an answer that is a status and a sentence, where no error of the tree says it."""
    return ErrorAnswer(status, {}, error_body(sentence))


def answer(error: Exception) -> ErrorAnswer:
    """Turn any error into status, extra headers and body; both ways through the server use this."""
    if not isinstance(error, FastserveError):
        return plain(500, "internal error; the server's log has the details")
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    return ErrorAnswer(status, _headers(error), error_body(_sentence(error)))


def _headers(error: FastserveError) -> dict[str, str]:
    match error:
        case PayloadTooLarge():
            return {"connection": "close"}
        case UnsupportedEncoding():
            return {"accept-encoding": "gzip, deflate"}
        case QueueFull():
            return {"retry-after": str(error.retry_after_s)}
        case NotReady():
            return {"retry-after": "1"}
        case Unauthorized():
            return {"www-authenticate": "Bearer"}
        case _:
            return {}


def _sentence(error: FastserveError) -> str:
    sentence = str(error)
    if isinstance(error, InvalidRequest) and error.field and error.field not in sentence:
        return f"{error.field}: {sentence}"
    return sentence


def error_response(error: Exception) -> Response:
    """Turn any error into a Starlette response."""
    parts = answer(error)
    return Response(parts.body, parts.status, parts.headers, "application/json")


async def on_error(_: Request, error: Exception) -> Response:
    """Answer an error of the tree."""
    log_failure(error)
    return error_response(error)


def log_failure(error: Exception) -> None:
    """Log what is not the client's doing; the rest only when asked to, and nothing thousands of times."""
    if isinstance(error, _REFUSALS):
        if log.isEnabledFor(logging.DEBUG):
            log.debug("request refused: %s", str(error)[:_SENTENCE_LIMIT])
    elif isinstance(error, FastserveError):
        if (text := _seldom.admit(str(error)[:_SENTENCE_LIMIT])) is not None:
            log.warning("request failed: %s", text)
    elif (text := _seldom.admit(f"{type(error).__name__}: {error}")) is not None:
        log.error("request failed: %s", text, exc_info=error)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: unknown address, wrong method."""
    assert isinstance(error, HTTPException)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    return Response(error_body(error.detail), error.status_code, headers, "application/json")


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer a programming mistake: the log gets the traceback, the client does not."""
    if (text := _seldom.admit(f"{request.method} {quoted(request.url.path)} crashed")) is not None:
        log.error("%s", text, exc_info=error)
    return error_response(error)


async def on_disconnect(_: Request, __: Exception) -> Response:
    """Give Starlette something to send to a client that is no longer there."""
    return Response(b"", 499)


HANDLERS = {
    FastserveError: on_error,
    HTTPException: on_http_exception,
    ClientDisconnect: on_disconnect,
    Exception: on_crash,
}
