"""Accept-Encoding: the highest q wins, the first on ties, 0 refuses."""

import gzip
import json
import zlib

import numpy as np
import pytest

from fastserve.frontends.http.compression import choose, compress


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        (None, None),
        (b"", None),
        (b"gzip", "gzip"),
        (b"deflate", "deflate"),
        (b"GZIP", "gzip"),
        (b"br", None),
        (b"gzip, deflate", "gzip"),
        (b"deflate, gzip", "deflate"),
        (b"deflate;q=0.5, gzip;q=0.8", "gzip"),
        (b"deflate; q=0.5 ,gzip ; q = 0.4", "deflate"),
        (b"gzip;q=0", None),
        (b"gzip;q=0.000, deflate;q=0.001", "deflate"),
        (b"*", "gzip"),
        (b"*;q=0", None),
        (b"gzip;q=0, *", None),
        (b"br, *;q=0.1", "gzip"),
        (b"identity, gzip;q=0.5", None),
        (b"identity;q=0.5, gzip", "gzip"),
        (b"gzip;q=nan", None),
        (b"gzip;q=much", None),
        (b"gzip;q=2", None),
        (b"gzip;q=-1", None),
        (b"gzip;level=9", "gzip"),
        (b",,;;q=1,", None),
        (b"\xff\x00", None),
        (b"gzip," * 1000, None),
    ],
)
def test_choice(value: bytes | None, chosen: str | None) -> None:
    assert choose(value) == chosen


GENERATOR = np.random.default_rng(5)
SCORES = GENERATOR.random((500, 2)).astype(np.float32)
BODIES = {
    "scores": SCORES.ravel().tolist(),
    "rows": SCORES.tolist(),
    "labels": GENERATOR.integers(0, 3, 2_000).tolist(),
    "words before scores": ["on time", "late"] * 500 + SCORES.ravel().tolist(),
    "scores before zeros": SCORES.ravel().tolist() + [0] * 5_000,
    "close together": (1013 + SCORES).ravel().tolist(),
    "ascending": [1_700_000_000_000 + 977 * i for i in range(1_000)],
    "zeros": np.zeros(1_000).tolist(),
    "strings": GENERATOR.choice(["on time", "late"], 1_000).tolist(),
    "named": [{"on time": low, "late": high} for low, high in SCORES.tolist()],
    "one": [0.5],
}


@pytest.mark.parametrize("name", BODIES)
def test_compressed_bodies_read_back_and_numbers_are_not_looked_through(name: str) -> None:
    body = json.dumps({"outputs": [{"name": "y", "data": BODIES[name]}]}, separators=(",", ":")).encode()
    packed = compress(body, "gzip")
    assert gzip.decompress(packed) == body
    assert packed == compress(body, "gzip"), "the same bytes every time"
    assert zlib.decompress(compress(body, "deflate")) == body
    fastest = len(gzip.compress(body, 1))
    assert len(packed) < fastest if name in ("scores", "rows") else len(packed) == fastest


def test_nothing_is_compressed_too() -> None:
    assert gzip.decompress(compress(b"", "gzip")) == b""
