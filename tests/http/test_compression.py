"""Accept-Encoding: the highest q wins, the first on ties, 0 refuses."""

import pytest

from fastserve.frontends.http.compression import choose


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
