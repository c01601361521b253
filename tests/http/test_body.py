"""Bodies that are too large, compressed, chunked, cut short; and compressed answers."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from fastserve.errors import InvalidRequest, PayloadTooLarge
from fastserve.frontends.http.body import Inflater, check_length, read_body
from tests.http.asgi import Answer, Client
from tests.http.conftest import OPTIONS

LIMIT = OPTIONS.max_body_bytes
URL = "/v2/models/scaled/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
).encode()


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def chunked(client: Client, body: bytes, size: int, headers: dict[str, str] | None = None) -> Answer:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return client.call("POST", URL, pieces, {"transfer-encoding": "chunked", **(headers or {})})


def assert_too_large(answer: Answer) -> None:
    assert answer.status == 413
    assert str(LIMIT) in answer.error
    assert answer.header("connection") == "close"


def test_a_length_over_the_limit_is_refused_before_the_body_is_read(client: Client) -> None:
    answer = client.call("POST", URL, [], {"content-length": str(LIMIT + 1)}, leaves=True)
    assert_too_large(answer)


def test_a_length_of_many_digits_is_too_large(client: Client) -> None:
    assert_too_large(client.call("POST", URL, [], {"content-length": "9" * 30}, leaves=True))


def test_a_body_of_exactly_the_limit_is_read(client: Client) -> None:
    assert client.post(URL, BODY.ljust(LIMIT)).status == 200


def test_chunks_are_counted_while_they_arrive(client: Client) -> None:
    assert chunked(client, BODY.ljust(LIMIT), 1_000).status == 200
    assert_too_large(chunked(client, BODY.ljust(LIMIT + 1), 1_000))


def test_a_body_in_single_bytes_is_put_together(client: Client) -> None:
    assert chunked(client, BODY, 1).body == client.post(URL, BODY).body


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_compressed_bodies(client: Client, encoding: str, size: int) -> None:
    packed = PACKERS[encoding](BODY)
    answer = chunked(client, packed, size, {"content-encoding": encoding})
    assert answer.body == client.post(URL, BODY).body


def test_deflate_may_come_without_zlibs_wrapping(client: Client) -> None:
    answer = client.post(URL, raw_deflate(BODY), {"content-encoding": "deflate"})
    assert answer.status == 200


@pytest.mark.parametrize("encoding", ["identity", "", "Identity"])
def test_no_encoding_has_names(client: Client, encoding: str) -> None:
    assert client.post(URL, BODY, {"content-encoding": encoding}).status == 200


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip,deflate", "gzi", "x\x01"])
def test_other_encodings_are_415(client: Client, encoding: str) -> None:
    answer = client.post(URL, BODY, {"content-encoding": encoding})
    assert answer.status == 415
    assert "Content-Encoding" in answer.error
    assert answer.header("accept-encoding") == "gzip, deflate"


def test_the_json_length_counts_decompressed_bytes(client: Client) -> None:
    entry = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    text = json.dumps({"inputs": [entry]}).encode()
    headers = {"content-encoding": "gzip", "inference-header-content-length": str(len(text))}
    assert client.post(URL, gzip.compress(text + bytes(12)), headers).status == 200


@pytest.mark.parametrize("encoding", PACKERS)
def test_the_limit_counts_decompressed_bytes(client: Client, encoding: str) -> None:
    at_limit, over = PACKERS[encoding](BODY.ljust(LIMIT)), PACKERS[encoding](BODY.ljust(LIMIT + 1))
    assert client.post(URL, at_limit, {"content-encoding": encoding}).status == 200
    assert_too_large(client.post(URL, over, {"content-encoding": encoding}))


def test_a_bomb_is_stopped_long_before_it_is_whole(client: Client) -> None:
    bomb = zlib.compress(bytes(50 * 2**20), 9)
    assert len(bomb) < LIMIT
    assert_too_large(client.post(URL, bomb, {"content-encoding": "deflate"}))


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:1],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data + data,
        lambda data: data[:12] + b"\xff\xff\xff\xff" + data[16:],
        lambda data: data[:-6] + b"\0\0\0\0\0\0",
        lambda data: b"\xff" + data,
    ],
    ids=["empty", "one byte", "cut short", "one more", "twice", "spoilt", "checksum", "before"],
)
def test_corrupt_compressed_data_is_400(client: Client, encoding: str, spoil: Any) -> None:
    answer = client.post(URL, spoil(PACKERS[encoding](BODY)), {"content-encoding": encoding})
    assert (answer.status, "body" in answer.error) == (400, True)


def test_an_answer_of_whole_steps_is_not_taken_for_a_short_one() -> None:
    data = bytes(3 * 2**20)
    inflater = Inflater("gzip", len(data))
    assert b"".join(inflater.feed(gzip.compress(data))) == data
    inflater.finish()


def test_the_inflater_never_makes_more_than_a_step_at_once() -> None:
    inflater = Inflater("deflate", 10 * 2**20)
    assert max(map(len, inflater.feed(zlib.compress(bytes(5 * 2**20))))) <= 2**20


def test_after_the_end_nothing_may_follow_in_another_chunk() -> None:
    inflater = Inflater("deflate", 100)
    assert list(inflater.feed(zlib.compress(b"a"))) == [b"a"]
    with pytest.raises(InvalidRequest, match="after the end"):
        list(inflater.feed(b"b"))
    with pytest.raises(PayloadTooLarge):
        list(Inflater("deflate", 10).feed(zlib.compress(bytes(11))))


def test_a_client_that_leaves_in_the_middle_of_its_body_gets_nothing_useful(client: Client) -> None:
    answer = client.call("POST", URL, [BODY[:20]], {"content-length": str(len(BODY))}, leaves=True)
    assert answer.raised is None
    assert answer.status == 499


# -- answers ----------------------------------------------------------------------------------------------

WIDE = json.dumps(
    {"inputs": [{"name": "x", "shape": [400, 3], "datatype": "FP32", "data": list(range(1200))}]}
).encode()


@pytest.mark.parametrize(("encoding", "bits"), [("gzip", 31), ("deflate", 15)])
def test_answers_are_compressed_when_asked_for(client: Client, encoding: str, bits: int) -> None:
    plain = client.post(URL, WIDE)
    answer = client.post(URL, WIDE, {"accept-encoding": encoding})
    assert zlib.decompress(answer.body, bits) == plain.body
    assert answer.headers == [
        ("content-encoding", encoding),
        ("vary", "accept-encoding"),
        ("content-length", str(len(answer.body))),
        ("content-type", "application/json"),
    ]
    assert client.post(URL, WIDE, {"accept-encoding": encoding}).body == answer.body


def test_short_answers_are_not_compressed(client: Client) -> None:
    assert client.post(URL, BODY, {"accept-encoding": "gzip"}).header("content-encoding") is None


def test_the_json_length_of_an_answer_counts_uncompressed_bytes(client: Client) -> None:
    body = json.dumps({**json.loads(WIDE), "parameters": {"binary_data_output": True}}).encode()
    plain = client.post(URL, body)
    answer = client.post(URL, body, {"accept-encoding": "gzip"})
    assert gzip.decompress(answer.body) == plain.body
    assert [name for name, _ in answer.headers] == [
        "content-encoding",
        "vary",
        "inference-header-content-length",
        "content-length",
        "content-type",
    ]
    header = "inference-header-content-length"
    assert answer.header(header) == plain.header(header)


def test_large_bodies_let_other_tasks_run() -> None:
    """The event loop turns between two steps of decompression."""

    async def count_turns() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        body = gzip.compress(bytes(8 * 2**20))

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        other = asyncio.create_task(turn())
        scope = {"type": "http", "headers": [(b"content-encoding", b"gzip")]}
        assert len(await read_body(Request(scope, receive), 10 * 2**20)) == 8 * 2**20
        other.cancel()
        return turns

    assert asyncio.run(count_turns()) >= 8


def test_any_raw_deflate_is_told_from_zlibs() -> None:
    """Also one in thirty that has zlib's check by chance."""
    by_chance = 0
    for number in range(300):
        body = f"{number} {number * number}".encode() * 3
        raw = raw_deflate(body)
        by_chance += (raw[0] << 8 | raw[1]) % 31 == 0
        for packed in (raw, zlib.compress(body)):
            assert b"".join(Inflater("deflate", 1_000).feed(packed)) == body
    assert by_chance


@pytest.mark.parametrize("values", [["5", "5"], ["x"], ["-1"], ["+5"], ["5.0"], [""], ["\xb2"]])
def test_a_length_that_is_none_is_refused_by_name(values: list[str]) -> None:
    headers = [(b"content-length", value.encode("latin-1")) for value in values]
    with pytest.raises(InvalidRequest) as refused:
        check_length(Request({"type": "http", "headers": headers}), 100)
    assert refused.value.field == "Content-Length"
