"""Request heads that must be refused, with the status and a part of the reason; and how to make heads."""

PLAIN = b"POST /v2/models/flights/infer HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 12\r\n\r\n"


def post(*headers: bytes, target: bytes = b"/v2/models/m/infer") -> bytes:
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: a", *headers, b"", b""]
    return b"\r\n".join(lines)


def get(*headers: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""])


LARGE = b"X-Large: " + b"a" * 65536
REFUSED = [
    # Framing: what request smuggling is made of.
    (post(b"Content-Length: 1", b"Content-Length: 2"), 400, "header Content-Length is given twice"),
    (post(b"Content-Length: 1", b"content-length: 1"), 400, "header content-length is given twice"),
    (post(b"Content-Length: 1, 1"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length:"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length: +1"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length: -1"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length: 0x1"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length: 1_0"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length: \xd9\xa1"), 400, "header Content-Length is not a decimal number"),
    (post(b"Content-Length: 9223372036854775808"), 400, "header Content-Length is out of range"),
    (post(b"Content-Length: " + b"9" * 99), 400, "header Content-Length is out of range"),
    (post(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400, "Content-Length and Transfer-Encoding"),
    (post(b"Transfer-Encoding: chunked", b"Content-Length: 1"), 400, "Content-Length and Transfer-Encoding"),
    (post(b"Transfer-Encoding: gzip, chunked"), 501, "header Transfer-Encoding names a coding other"),
    (post(b"Transfer-Encoding: identity"), 501, "header Transfer-Encoding names a coding other"),
    (post(b"Transfer-Encoding: xchunked"), 501, "header Transfer-Encoding names a coding other"),
    (post(b"Transfer-Encoding: chunker"), 501, "header Transfer-Encoding names a coding other"),
    (post(b"Transfer-Encoding: clunked"), 501, "header Transfer-Encoding names a coding other"),
    (post(b"Transfer-Encoding: \x0bchunked"), 400, "header Transfer-Encoding holds a control character"),
    (post(b"Transfer-Encoding:"), 501, "header Transfer-Encoding names a coding other"),
    (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        400,
        "Transfer-Encoding is given twice",
    ),
    (
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "Transfer-Encoding is not defined in HTTP/1.0",
    ),
    # Lines.
    (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bare line feed"),
    (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "bare line feed"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bare line feed"),
    (b"GET / HTTP/1.1\r\nHost\n", 400, "bare line feed"),
    (b"GET\n", 400, "bare line feed"),
    (b"GET /\n", 400, "bare line feed"),
    (b"\nGET / HTTP/1.1\r\n", 400, "bare line feed"),
    (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "carriage return"),
    (b"GET / HTTP/1.1\r\nHost\r: a\r\n\r\n", 400, "carriage return"),
    (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400, "carriage return"),
    (b"GET /\rx", 400, "carriage return"),
    (b"\rGET", 400, "carriage return"),
    (b"\r\n\r\n\r\n" + PLAIN, 400, "more than two empty lines"),
    (get(b"X-Folded: a", b" b"), 400, "white space (folded headers"),
    (get(b"X-Folded: a", b"\tb"), 400, "white space (folded headers"),
    # Request line.
    (b"GET / HTTP/2.0\r\n\r\n", 505, "HTTP version"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP version"),
    (b"GET / HTTP/0.9\r\n\r\n", 505, "HTTP version"),
    (b"GET / HTTP/1.2\r\n\r\n", 505, "HTTP version"),
    (b"GET /\r\n", 400, "no HTTP version"),
    (b"GET / HTTP/1.1 \r\n", 400, "does not end with an HTTP version"),
    (b"GET / HTTP/1.10\r\n", 400, "does not end with an HTTP version"),
    (b"GET / http/1.1\r\n", 400, "does not end with an HTTP version"),
    (b"GET / x HTTP/1.1\r\n", 400, "does not end with an HTTP version"),
    (b"GET  / HTTP/1.1\r\n", 400, "target"),
    (b"GET /\x01 HTTP/1.1\r\n", 400, "target"),
    (b"GET /\x00 HTTP/1.1\r\n", 400, "target"),
    (b"GET /\x7f HTTP/1.1\r\n", 400, "target"),
    (b"GET /" + b"a" * 40 + b"\x7f HTTP/1.1\r\n", 400, "target"),
    (b"GET\t/ HTTP/1.1\r\n", 400, "method"),
    (b" GET / HTTP/1.1\r\n", 400, "method"),
    (b"G@T / HTTP/1.1\r\n", 400, "method"),
    (b"\x16\x03\x01\x02\x00\x01", 400, "method"),
    # Header names and values.
    (get(b"Content-Length : 1"), 400, "before the colon of header Content-Length"),
    (get(b"Content-Length\t: 1"), 400, "before the colon of header Content-Length"),
    (get(b": value"), 400, "a header has no name"),
    (get(b"X-None"), 400, "header line X-None has no colon"),
    (get(b"X(1): a"), 400, "a header name holds a character"),
    (get(b"X\x001: a"), 400, "a header name holds a character"),
    (get(b"X\xe9: a"), 400, "a header name holds a character"),
    (get(b"X-Nul: a\x00b"), 400, "header X-Nul holds a NUL byte"),
    (get(b"X-Bell: " + b"a" * 40 + b"\x07b"), 400, "header X-Bell holds a control character"),
    (get(b"X-Del: \x7f"), 400, "header X-Del holds a control character"),
    (get(b"X-Del: " + b"a" * 40 + b"\x7fb"), 400, "header X-Del holds a control character"),
    (get(b"Y" * 200 + b": \x01"), 400, "header " + "Y" * 64 + " holds"),
    (get(b"Host: a"), 400, "header Host is given twice"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "header Host is missing"),
    (b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", 400, "header Host is missing"),
    # Sizes.
    (get(LARGE), 431, "over 65536 bytes"),
    (b"GET / HTTP/1.1\r\n" + LARGE, 431, "over 65536 bytes"),
    (b"GET /" + b"a" * 65536, 431, "over 65536 bytes"),
    (b"G" * 65536, 431, "over 65536 bytes"),
    (get(*[b"X: 1"] * 256), 431, "more than 256 headers"),
]
