"""The request-head scan and the chunk scan with regular expressions: the oracle of the compiled ones."""

import re
from dataclasses import dataclass

INCOMPLETE, FAST, ORDINARY, BAD = 0, 1, 2, -1
LIMIT = 65536

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TARGET = rb"[^\x00-\x20\x7f]"
VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]"
REQUEST_LINE = re.compile(rb"(%b+) (%b+) HTTP/(\d\.\d)" % (TOKEN, TARGET))
HEADER = re.compile(rb"(%b+):[ \t]*(%b*)" % (TOKEN, VALUE))
REQUEST_LINE_BEGIN = re.compile(
    rb"%b*|%b+ (%b*|%b+ (|H|HT|HTT|HTTP|HTTP/|HTTP/\d|HTTP/\d\.|HTTP/\d\.\d))"
    % (TOKEN, TOKEN, TARGET, TARGET)
)
REQUEST_LINE_END = re.compile(rb"%b+ (%b*|%b+ HTTP/\d\.\d)" % (TOKEN, TARGET, TARGET))
HEADER_BEGIN = re.compile(rb"%b*|%b+:%b*" % (TOKEN, TOKEN, VALUE))
_PLAIN = rb"[0-9A-Za-z\-._~!$&'()*+,;=:@/]+"
FAST_TARGET = re.compile(rb"/v2/models/" + _PLAIN + rb"/infer|/v1/models/" + _PLAIN + rb":predict")


@dataclass
class Head:
    """What the scan found; the fields stand for themselves."""

    verdict: int = INCOMPLETE
    status: int = 0
    method: bytes = b""
    target: bytes = b""
    head_length: int = 0
    content_length: int = -1
    json_length: int = -1
    timeout_us: int = -1
    chunked: bool = False
    keep_alive: bool = True
    http_minor: int = 1
    accept_encoding: bytes | None = None


class Refused(Exception):
    def __init__(self, status: int = 400) -> None:
        self.status = status


def scan_head(data: bytes) -> Head:
    """Judge the whole of `data` at once."""
    head = Head()
    try:
        read(data[:LIMIT], head)
        if head.verdict == INCOMPLETE and len(data) >= LIMIT:
            raise Refused(431)
    except Refused as refused:
        head.verdict, head.status = BAD, refused.status
    return head


def read(data: bytes, head: Head) -> None:
    at, empty, request_line = 0, 0, False
    headers: list[tuple[bytes, bytes]] = []
    while True:
        stop = at + len(re.match(rb"[^\r\n]*", data[at:])[0])  # type: ignore[index]
        line, end = data[at:stop], data[stop : stop + 2]
        if end in (b"", b"\r"):
            begin = HEADER_BEGIN if request_line else REQUEST_LINE_BEGIN
            if begin.fullmatch(line) is None or (end and line and not ends(line, request_line)):
                raise Refused
            return
        if end != b"\r\n":
            raise Refused
        at = stop + 2
        if line and request_line:
            headers.append(header(line))
            check(headers, head)
        elif line:
            read_request_line(line, head)
            request_line = True
        elif request_line:
            head.head_length = at
            finish(headers, head)
            return
        else:
            empty += 1
            if empty > 2:
                raise Refused


def ends(line: bytes, request_line: bool) -> bool:
    """Whether a carriage return may follow; what else is wrong with a line is found at its end."""
    return request_line or REQUEST_LINE_END.fullmatch(line) is not None


def read_request_line(line: bytes, head: Head) -> None:
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refused
    if match[3] not in (b"1.0", b"1.1"):
        raise Refused(505)
    head.method, head.target, head.http_minor = match[1], match[2], int(match[3][-1:])


def header(line: bytes) -> tuple[bytes, bytes]:
    match = HEADER.fullmatch(line)
    if match is None:
        raise Refused
    return match[1].lower(), match[2].strip(b" \t")


def check(headers: list[tuple[bytes, bytes]], head: Head) -> None:
    """Refuse what the newest header makes wrong."""
    if len(headers) > 256:
        raise Refused(431)
    names = [name for name, _ in headers]
    name, value = headers[-1]
    if name in (b"host", b"content-length", b"transfer-encoding") and names.count(name) > 1:
        raise Refused
    if name == b"content-length" and (b"transfer-encoding" in names or not number(value)):
        raise Refused
    if name == b"transfer-encoding":
        if b"content-length" in names or head.http_minor == 0:
            raise Refused
        if value.lower() != b"chunked":
            raise Refused(501)


def number(value: bytes) -> bool:
    return re.fullmatch(rb"[0-9]+", value) is not None and int(value) < 2**63


def finish(headers: list[tuple[bytes, bytes]], head: Head) -> None:
    def values(name: bytes) -> list[bytes]:
        return [value for other, value in headers if other == name]

    if head.http_minor == 1 and not values(b"host"):
        raise Refused
    tokens = [token.strip(b" \t").lower() for value in values(b"connection") for token in value.split(b",")]
    head.keep_alive = b"close" not in tokens and head.http_minor == 1
    head.chunked = bool(values(b"transfer-encoding"))
    lengths, json, timeouts = (
        values(name)
        for name in (b"content-length", b"inference-header-content-length", b"x-request-timeout-ms")
    )
    head.content_length = int(lengths[0]) if lengths else -1
    head.accept_encoding = next(iter(values(b"accept-encoding")), None)
    if json and number(json[0]):
        head.json_length = int(json[0])
    if timeouts and number(timeouts[0]) and 1 <= int(timeouts[0]) <= 10**9:
        head.timeout_us = int(timeouts[0]) * 1000
    fast = (
        head.method == b"POST"
        and FAST_TARGET.fullmatch(head.target)
        and lengths
        and not head.chunked
        and not any(values(name) for name in (b"expect", b"upgrade", b"content-encoding"))
        and (
            not values(b"connection")
            or [v.lower() for v in values(b"connection")] in ([b"keep-alive"], [b"close"])
        )
        and (not json or (len(json) == 1 and number(json[0]) and int(json[0]) <= head.content_length))
        and (not timeouts or (len(timeouts) == 1 and head.timeout_us > 0))
        and len(values(b"accept-encoding")) <= 1
    )
    head.verdict = FAST if fast else ORDINARY


SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)(;%b*)?\r\n" % VALUE)
TRAILER = re.compile(rb"%b+:%b*\r\n" % (TOKEN, VALUE))


def scan_chunks(data: bytes) -> tuple[int | None, bytes]:
    """The end of a chunked body that is whole and well-formed, None for any other; and what was decoded."""
    at, body, chunks = 0, b"", 0
    while match := SIZE_LINE.match(data, at):
        size = int(match[1], 16)
        if len(match[0]) > 256 or size >= 2**63:
            break
        at = match.end()
        if size == 0:
            return trailers(data, at), body
        chunks += 1
        body += data[at : at + size]
        at += size + 2
        if chunks > 65536 or data[at - 2 : at] != b"\r\n":
            break
    return None, body


def trailers(data: bytes, start: int) -> int | None:
    at = start
    while match := TRAILER.match(data, at):
        at = match.end()
    return at + 2 if data[at : at + 2] == b"\r\n" and at + 2 - start <= 8192 else None
