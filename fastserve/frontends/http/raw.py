"""Whole responses as bytes, for the answers that never pass through Starlette."""

from collections.abc import Mapping
from http import HTTPStatus

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}


def render(
    status: int,
    default_headers: bytes,
    headers: Mapping[str, str],
    body: bytes,
    content_type: str = "application/json",
) -> bytes:
    """One response in one piece: header and body leave in one write.

    The order of the headers is the one that Starlette under uvicorn gives: defaults, the answer's own,
    length, type.
    """
    own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"%s%s%scontent-length: %d\r\ncontent-type: %s\r\n\r\n%s" % (
        _STATUS_LINES[status],
        default_headers,
        own.encode("latin-1"),
        len(body),
        content_type.encode(),
        body,
    )


def recompress(response: bytes, default_headers: bytes, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The same 200 response with another body and further headers, its own kept in their order."""
    head = response[: response.index(b"\r\n\r\n") + 2]
    prefix = len(_STATUS_LINES[200]) + len(default_headers)
    own = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
    lines = [line for line in head[prefix:].split(b"\r\n") if line]
    kept = b"".join(
        (b"content-length: %d" % len(body) if line.startswith(b"content-length:") else line) + b"\r\n"
        for line in lines
    )
    return b"%s%s%s\r\n%s" % (head[:prefix], own, kept, body)
