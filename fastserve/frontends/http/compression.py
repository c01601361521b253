"""Which Content-Encoding a client wants, and applying it; both ways through the server use it."""

import zlib
from functools import lru_cache

_GZIP_WBITS = 31
_LEVEL = 1
"""Answers are numbers as text: the higher levels cost several times the CPU for a few per cent of size."""
_LOOK_BYTES = 256
"""At each quarter of a body: labels stand before scores. Its other bytes are taken to be like these."""
_LEADING = 6
"""Characters in which numbers close together are alike, which makes their text shorter too."""
_NUMERIC = b"0123456789.,-+e[]"
_LONGEST_BYTES = 1_024
"""No honest Accept-Encoding is longer; what is remembered stays small."""


@lru_cache(maxsize=256)
def choose(accept_encoding: bytes | None) -> str | None:
    """Name the encoding that an Accept-Encoding value asks for: "gzip", "deflate", or None for as it is.

    The highest q wins, the first on ties; q=0 refuses; `*` stands for gzip unless gzip is named.
    """
    if not accept_encoding or len(accept_encoding) > _LONGEST_BYTES:
        return None
    weights: dict[str, float] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights.setdefault(name, _weight(parameters))
    if "*" in weights:
        weights.setdefault("gzip", weights["*"])
    best, best_weight = None, 0.0
    for name, weight in weights.items():
        if name in ("gzip", "deflate", "identity") and weight > best_weight:
            best, best_weight = name, weight
    return None if best == "identity" else best


def _weight(parameters: list[str]) -> float:
    """Read `q=…`; a weight that cannot be read refuses the encoding, which is always safe."""
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0


def compress(body: bytes, encoding: str) -> bytes:
    """Compress a whole body; the same bytes every time (gzip's time stamp is zero)."""
    wbits = _GZIP_WBITS if encoding == "gzip" else zlib.MAX_WBITS
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, wbits, strategy=_strategy(body))
    return packer.compress(body) + packer.flush()


def _strategy(body: bytes) -> int:
    """Huffman's code alone for numbers that hardly repeat: no shorter text is found for longer looking."""
    starts = (len(body) // 4, len(body) // 2, len(body) * 3 // 4)
    text = b",".join(body[at : at + _LOOK_BYTES] for at in starts)
    numbers = [number[:_LEADING] for number in text.split(b",")]
    if text.translate(None, _NUMERIC) or len(set(numbers)) < 0.75 * len(numbers):
        return zlib.Z_DEFAULT_STRATEGY
    return zlib.Z_HUFFMAN_ONLY


def encoding_headers(encoding: str) -> dict[str, str]:
    """Headers of a compressed answer, before every other header of the answer."""
    return {"content-encoding": encoding, "vary": "accept-encoding"}
