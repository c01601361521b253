"""The chunk scan: where a chunked body ends, what is malformed, and agreement with the plain twin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_core.wire.head import ChunkScanner
from tests.oracle.head_twin import scan_chunks

MORE, MALFORMED = -1, -2


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


@pytest.mark.parametrize(
    ("data", "body_bytes"),
    [
        (b"0\r\n\r\n", 0),
        (b"000;last\r\n\r\n", 0),
        (chunk(b"hello") + chunk(b"x" * 300) + b"0\r\n\r\n", 305),
        (b"A\r\n0123456789\r\na\r\n0\r\n\r\n12345\r\n0\r\n\r\n", 20),
        (chunk(b"\r\n", b';name="a b";\tx') + b"0\r\n\r\n", 2),
        (chunk(b"x") + b"0\r\nX-Checksum: 1\r\nX-Empty:\r\n\r\n", 1),
        (b"0" * 200 + b"1\r\nx\r\n0\r\n\r\n", 1),
    ],
)
def test_the_end_of_a_body_is_found(data: bytes, body_bytes: int) -> None:
    scanner = ChunkScanner()
    assert scanner.feed(b"head" + data + b"GET / HTTP/1.1\r\n", 4) == 4 + len(data)
    assert (scanner.body_bytes, scanner.reason) == (body_bytes, "")
    assert scan_chunks(data)[0] == len(data)


MALFORMED_BODIES = [
    (b"\r\n", "hexadecimal"),
    (b";x\r\n", "hexadecimal"),
    (b"g\r\n", "hexadecimal"),
    (b"-1\r\n", "hexadecimal"),
    (b"+1\r\n", "hexadecimal"),
    (b"0x1\r\n", "hexadecimal"),
    (b" 1\r\n", "hexadecimal"),
    (b"1 \r\nx\r\n", "hexadecimal"),
    (b"1 ;x\r\nx\r\n", "hexadecimal"),
    (b"1\nx\r\n", "hexadecimal"),
    (b"1\rx", "does not end with CRLF"),
    (b"1;a\nb\r\nx\r\n", "control character"),
    (b"1;a\x00b\r\nx\r\n", "control character"),
    (b"8000000000000000\r\n", "out of range"),
    (b"10000000000000001\r\n", "out of range"),
    (b"f" * 40 + b"\r\n", "out of range"),
    (b"1\r\nxy\r\n", "longer than its size"),
    (b"1\r\nx\n0\r\n", "longer than its size"),
    (b"1\r\nx\rx", "longer than its size"),
    (b"1;" + b"a" * 253 + b"\r\n", "over 256 bytes"),
    (b"0" * 300, "over 256 bytes"),
    (b"0\r\n x\r\n\r\n", "trailer line"),
    (b"0\r\n: x\r\n\r\n", "trailer line"),
    (b"0\r\nX : x\r\n\r\n", "trailer line"),
    (b"0\r\nX: a\r\n b\r\n\r\n", "trailer line"),
    (b"0\r\nX: a\nY: b\r\n\r\n", "trailer line"),
    (b"0\r\nX: \x00\r\n\r\n", "trailer line"),
    (b"0\r\nX\r\n\r\n", "trailer line"),
    (b"0\r\nX: a\rb\r\n\r\n", "trailer line"),
    (b"0\r\n\rx", "trailer line"),
    (b"0\r\nX: " + b"a" * 8186 + b"\r\n\r\n", "over 8192 bytes"),
]


@pytest.mark.parametrize(("data", "reason"), MALFORMED_BODIES)
def test_malformed_bodies_are_refused(data: bytes, reason: str) -> None:
    scanner = ChunkScanner()
    assert scanner.feed(data) == MALFORMED
    assert reason in scanner.reason
    assert scanner.feed(b"0\r\n\r\n") == MALFORMED
    assert scan_chunks(data)[0] is None


def test_limits_are_met_exactly() -> None:
    line = b"1;" + b"a" * 252 + b"\r\nx\r\n0\r\n\r\n"
    assert ChunkScanner().feed(line) == len(line)
    trailers = b"0\r\nX: " + b"a" * 8185 + b"\r\n\r\n"
    assert ChunkScanner().feed(trailers) == len(trailers)
    scanner = ChunkScanner()
    assert scanner.feed(chunk(b"x") * 65536) == MORE
    assert scanner.feed(chunk(b"x")) == MALFORMED
    assert "more than 65536 chunks" in scanner.reason


def test_body_bytes_grow_as_they_come() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(b"7fffffffffffffff\r\nabc") == MORE
    assert scanner.body_bytes == 3
    assert scanner.feed(bytearray(b"de")) == MORE
    assert scanner.feed(memoryview(b"")) == MORE
    assert scanner.body_bytes == 5


def test_reset_starts_again() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(b"zz") == MALFORMED
    scanner.reset()
    assert scanner.feed(b"1\r\nx\r\n0\r\n\r\n") == 11
    scanner.reset()
    assert (scanner.body_bytes, scanner.reason) == (0, "")


@pytest.mark.parametrize("start", [-1, 4])
def test_a_start_outside_of_the_data_is_an_error(start: int) -> None:
    with pytest.raises(ValueError, match="start"):
        ChunkScanner().feed(b"abc", start)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Chunked bodies, most of them with something wrong."""
    data = b"".join(chunk(part) for part in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4)))
    data += b"0\r\n" + draw(st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ:\r\n"])) + b"\r\n"
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        piece = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"0", b"f", b"g", b";a=b", b":", b" ", b"\x00"])
        )
        data = data[:at] + piece + data[at + draw(st.integers(0, 2)) :]
    return data


@given(bodies(), st.lists(st.integers(1, 9), min_size=1))
def test_bodies_agree_with_the_twin_however_they_arrive(data: bytes, steps: list[int]) -> None:
    end, body = scan_chunks(data)
    whole = ChunkScanner()
    result = whole.feed(data)
    assert result == end if end is not None else result in (MORE, MALFORMED)
    if end is not None:
        assert whole.body_bytes == len(body)
    scanner, at, got = ChunkScanner(), 0, MORE
    for step in steps * len(data):
        if got != MORE or at >= len(data):
            break
        piece = b"--" + data[at : at + step]
        got = scanner.feed(piece, 2)
        at = at + got - 2 if got > 0 else at + step
    assert (at if got > 0 else got, scanner.body_bytes) == (result, whole.body_bytes)


@given(bodies())
def test_what_is_malformed_stays_so(data: bytes) -> None:
    verdicts = [ChunkScanner().feed(data[:stop]) for stop in range(len(data) + 1)]
    decided = [verdict for verdict in verdicts if verdict != MORE]
    assert len(set(decided)) <= 1
    assert verdicts == [MORE] * (len(verdicts) - len(decided)) + decided
