"""Whole responses as bytes, for the answers that never pass through Starlette."""

import re
from collections.abc import Mapping
from http import HTTPStatus

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
_LENGTH = re.compile(rb"(?m)^content-length: \d+")


def render(status: int, default_headers: bytes, headers: Mapping[str, str], body: bytes) -> bytes:
    """One response with a JSON body in one piece: header and body leave in one write.

    The order of the headers is the one that Starlette under uvicorn gives: defaults, the answer's own,
    length, type.
    """
    return b"%s%s%scontent-length: %d\r\ncontent-type: application/json\r\n\r\n%s" % (
        _STATUS_LINES[status],
        default_headers,
        _lines(headers),
        len(body),
        body,
    )


def recompress(response: bytes, default_headers: bytes, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The same 200 response with another body and further headers, its own kept in their order."""
    head = response[: response.index(b"\r\n\r\n")]
    before = len(_STATUS_LINES[200]) + len(default_headers)
    own = _LENGTH.sub(b"content-length: %d" % len(body), head[before:])
    return b"%s%s%s\r\n\r\n%s" % (head[:before], _lines(headers), own, body)


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
