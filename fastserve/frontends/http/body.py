"""Reads request bodies: never more than the limit, whether sent whole, in chunks or compressed."""

import asyncio
import zlib
from collections.abc import Iterator

from starlette.requests import Request

from fastserve.errors import InvalidRequest, PayloadTooLarge, UnsupportedEncoding
from fastserve.frontends.http.errors import printable

_STEP_BYTES = 1 << 20
"""Decompressed bytes between two looks at the limit, and between two turns of the event loop."""


def content_encoding(request: Request) -> str | None:
    """Read Content-Encoding: "gzip", "deflate", or None; anything else raises UnsupportedEncoding."""
    value = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if value in ("", "identity"):
        return None
    if value not in ("gzip", "deflate"):
        raise UnsupportedEncoding(printable(value))
    return value


def check_length(request: Request, limit_bytes: int) -> None:
    """Refuse a body that says itself that it is too large, before a byte of it is read.

    Raises
    ------
    PayloadTooLarge, InvalidRequest
    """
    values = request.headers.getlist("content-length")
    if not values:
        return
    if len(values) > 1 or not (values[0].isascii() and values[0].isdigit()):
        raise InvalidRequest("Content-Length must be one number of bytes", "Content-Length")
    if len(values[0]) > 19 or int(values[0]) > limit_bytes:
        raise PayloadTooLarge(limit_bytes)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Read and decompress the whole body.

    Raises
    ------
    PayloadTooLarge
        More than `limit_bytes`, counted as sent and as decompressed.
    UnsupportedEncoding
        A Content-Encoding other than gzip, deflate, identity.
    InvalidRequest
        Compressed data that is corrupt, cut short, or followed by something else.
    ClientDisconnect
        The client went away before the end.
    """
    check_length(request, limit_bytes)
    encoding = content_encoding(request)
    inflater = Inflater(encoding, limit_bytes) if encoding else None
    pieces: list[bytes] = []
    sent_bytes = 0
    async for chunk in request.stream():
        sent_bytes += len(chunk)
        if sent_bytes > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
        if inflater is None:
            pieces.append(chunk)
            continue
        for piece in inflater.feed(chunk):
            pieces.append(piece)
            if len(piece) == _STEP_BYTES:
                await asyncio.sleep(0)
    if inflater is not None:
        inflater.finish()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Inflater:
    """Decompresses one stream in bounded steps; refuses to produce more than the limit."""

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        self._encoding = encoding
        self._limit_bytes = limit_bytes
        self._made_bytes = 0
        self._start = b""
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress more of the stream, at most 1 MiB a piece."""
        if self._stream is None:
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return
            self._stream = zlib.decompressobj(self._window_bits(data))
        if self._stream.eof and data:
            raise self._trailing()
        while True:
            piece = self._step(self._stream, data)
            if piece:
                yield piece
            if self._stream.unused_data:
                raise self._trailing()
            data = self._stream.unconsumed_tail
            if self._stream.eof or len(piece) < _STEP_BYTES:
                return

    def _step(self, stream: "zlib._Decompress", data: bytes) -> bytes:
        try:
            piece = stream.decompress(data, _STEP_BYTES)
        except zlib.error:
            raise InvalidRequest(f"the body is not valid {self._encoding} data", "body") from None
        self._made_bytes += len(piece)
        if self._made_bytes > self._limit_bytes:
            raise PayloadTooLarge(self._limit_bytes)
        return piece

    def _trailing(self) -> InvalidRequest:
        return InvalidRequest(f"the body goes on after the end of its {self._encoding} data", "body")

    def finish(self) -> None:
        """Check that the stream came to its end; InvalidRequest when it did not."""
        if self._stream is None or not self._stream.eof:
            raise InvalidRequest(f"the body ends before its {self._encoding} data does", "body")

    def _window_bits(self, data: bytes) -> int:
        """Tell zlib-wrapped from raw deflate by zlib's header check; both are sent under the name deflate."""
        if self._encoding == "gzip":
            return 31
        wrapped = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
        return zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
