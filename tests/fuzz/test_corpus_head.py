"""Replays what the head fuzzer has found worth keeping through the compiled module, beside the plain twin."""

from pathlib import Path

import pytest

from fastserve_core.wire.head import BAD, INCOMPLETE, ChunkScanner, RequestHead
from tests.oracle.head_twin import scan_chunks, scan_head

CORPUS = sorted((Path(__file__).parent / "corpus" / "head").iterdir())
FIELDS = (
    "head_length",
    "content_length",
    "json_length",
    "timeout_us",
    "chunked",
    "keep_alive",
    "accept_encoding",
)


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) > 100


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:12])
def test_kept_inputs(path: Path) -> None:
    data, start = path.read_bytes(), 0
    head, stepped = RequestHead(), RequestHead()
    while start < len(data):
        verdict, twin = head.scan(data, start), scan_head(data[start:])
        assert (verdict, head.status) == (twin.verdict, twin.status)
        if verdict in (INCOMPLETE, BAD):
            early = {RequestHead().scan(data[:stop], start) for stop in range(start, len(data))}
            assert early <= {INCOMPLETE, verdict}
            return
        for stop in range(start, start + head.head_length):
            assert stepped.scan(data[:stop], start) == INCOMPLETE
        assert stepped.scan(data, start) == verdict
        assert [getattr(head, field) for field in FIELDS] == [getattr(twin, field) for field in FIELDS]
        start += head.head_length
        if not head.chunked:
            start += max(head.content_length, 0)
            continue
        body = ChunkScanner()
        end, decoded = scan_chunks(data[start:])
        got = body.feed(data, start)
        if end is None:
            assert got < 0
            return
        assert (got, body.body_bytes) == (start + end, len(decoded))
        start = got
