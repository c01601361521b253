"""Request lines that are well-formed and still mean nothing here, or not what they seem to."""

import re

from fastserve.frontends.http.errors import ErrorAnswer, plain, quoted
from fastserve_core.wire.head import RequestHead

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"})
"""Those that some server has for a path (RFC 9110, 9.1, and PATCH); any other one is 501 (15.6.2)."""


_NO_PATH = re.compile(rb"(https?://[^/?#]+)(\?.*)?")


def with_path(target: bytes) -> bytes:
    """Give an absolute target without a path the path that it means, "/" (RFC 9110, 4.2.3)."""
    found = _NO_PATH.fullmatch(target)
    return target if found is None else found[1] + b"/" + (found[2] or b"")


def refused(head: RequestHead) -> ErrorAnswer | None:
    """Tell what is wrong with the method or the target of a scanned head; None when nothing is."""
    if head.method not in _METHODS:
        method = quoted(head.method.decode("ascii"))
        return plain(501, f"the method {method} is not one that this server knows")
    target = head.target
    if not target.isascii():
        sentence = "the target in the request line is not ASCII; write other characters as %XX"
    elif not target.startswith((b"/", b"http://", b"https://")):
        sentence = f"the target in the request line is {quoted(target.decode())}, not a path from / on"
    else:
        return None
    return plain(400, sentence)
