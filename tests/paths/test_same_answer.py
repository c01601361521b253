"""Every bad request of the protocol, sent down both ways: the same bytes come back, and the field is named."""

import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from tests.paths.workers import body, post, status

ROW = [1.0, 2.5, 3.0]


def x(**changes: Any) -> dict[str, Any]:
    """A good input tensor of model `scaled`; a change of None removes the key."""
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": ROW, **changes}
    return {key: value for key, value in tensor.items() if value is not None}


def request(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def pair(*lengths: int) -> bytes:
    """A row of each input of model `pair`."""
    tensors = [("a", lengths[0]), ("b", lengths[1])]
    return request(*(x(name=name, shape=[1, size], data=[1.0] * size) for name, size in tensors))


def deep(levels: int) -> bytes:
    return b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":%s}]}' % (
        b"[" * levels + b"1" + b"]" * levels
    )


GOOD = request(x())
BINARY = x(data=None, parameters={"binary_data_size": 12})
RAW = struct.pack("<3f", *ROW)

# (name, model path, body, extra headers, status, what the error must name)
BAD: list[tuple[str, str, bytes, list[str], int, str]] = [
    ("malformed JSON", "scaled", b'{"inputs": [', [], 400, "JSON"),
    ("no JSON at all", "scaled", b"hello", [], 400, "JSON"),
    ("an empty body", "scaled", b"", [], 400, "JSON"),
    ("a JSON list", "scaled", b"[]", [], 400, "object"),
    ("text behind the object", "scaled", GOOD + b"x", [], 400, "JSON"),
    ("invalid UTF-8", "scaled", b'{"id":"\xff","inputs":[]}', [], 400, "JSON"),
    ("no inputs", "scaled", b"{}", [], 400, "inputs"),
    ("inputs empty", "scaled", request(), [], 400, "'x'"),
    ("inputs not a list", "scaled", b'{"inputs":{}}', [], 400, "inputs"),
    ("a tensor that is no object", "scaled", request(5), [], 400, "inputs[0]"),
    ("wrong width", "scaled", request(x(shape=[1, 4], data=[1, 2, 3, 4])), [], 400, "shape"),
    ("wrong rank", "scaled", request(x(shape=[3])), [], 400, "shape"),
    ("no shape", "scaled", request(x(shape=None)), [], 400, "shape"),
    ("shape not a list", "scaled", request(x(shape=3)), [], 400, "shape"),
    ("a fractional dim", "scaled", request(x(shape=[1.5, 3])), [], 400, "shape"),
    ("a boolean dim", "scaled", request(x(shape=[True, 3])), [], 400, "shape: true is not an integer"),
    ("a null dim", "scaled", request(x(shape=[1, None])), [], 400, "shape: null is not an integer"),
    ("less data than the shape", "scaled", request(x(shape=[2, 3])), [], 400, "data"),
    ("more data than the shape", "scaled", request(x(data=[*ROW, 4.0])), [], 400, "data"),
    ("no data", "scaled", request(x(data=None)), [], 400, "data"),
    ("data not a list", "scaled", request(x(data=1.0)), [], 400, "data"),
    ("ragged data", "scaled", request(x(shape=[2, 3], data=[[1, 2, 3], [4, 5]])), [], 400, "data"),
    ("nested against the shape", "scaled", request(x(shape=[3, 3], data=[[1, 2, 3, 4, 5, 6, 7, 8, 9]])), [], 400, "data"),
    ("shape product overflow", "scaled", request(x(shape=[2**62, 3])), [], 400, "shape"),
    ("shape beyond 64 bits", "scaled", request(x(shape=[2**70, 3])), [], 400, "shape"),
    ("a huge claim", "scaled", request(x(shape=[10**12, 3])), [], 400, "data"),
    ("negative rows", "scaled", request(x(shape=[-1, 3])), [], 400, "shape"),
    ("negative width", "scaled", request(x(shape=[1, -3])), [], 400, "shape"),
    ("no rows", "scaled", request(x(shape=[0, 3], data=[])), [], 400, "shape"),
    ("unknown model", "nobody", GOOD, [], 404, "nobody"),
    ("unknown version", "scaled/versions/9", GOOD, [], 404, "9"),
    ("a version that is no number", "scaled/versions/latest", GOOD, [], 404, "latest"),
    ("unknown input", "scaled", request(x(name="z")), [], 400, "z"),
    ("an extra unknown input", "scaled", request(x(), x(name="z")), [], 400, "z"),
    ("duplicate inputs", "scaled", request(x(), x()), [], 400, "x"),
    ("missing input", "pipeline", request({"name": "hour", "shape": [1, 1], "datatype": "INT64", "data": [3]}), [], 400, "carrier"),
    ("unknown output", "scaled", request(x(), outputs=[{"name": "q"}]), [], 400, "q"),
    ("an output whose name is no string", "scaled", request(x(), outputs=[{"name": None}]), [], 400, "outputs[0].name must be a string"),
    ("duplicate outputs", "scaled", request(x(), outputs=[{"name": "y"}, {"name": "y"}]), [], 400, "y"),
    ("outputs not a list", "scaled", request(x(), outputs={}), [], 400, "outputs"),
    ("an output without a name", "scaled", request(x(), outputs=[{}]), [], 400, "outputs[0]"),
    ("wrong datatype", "scaled", request(x(datatype="FP64")), [], 400, "datatype"),
    ("unknown datatype", "scaled", request(x(datatype="FLOAT")), [], 400, "datatype"),
    ("no datatype", "scaled", request(x(datatype=None)), [], 400, "datatype"),
    ("a string in numbers", "scaled", request(x(data=[1, "2", 3])), [], 400, "data"),
    ("a boolean in numbers", "scaled", request(x(data=[1, True, 3])), [], 400, "data"),
    ("a number over FP32", "scaled", request(x(data=[1, 1e39, 3])), [], 400, "data"),
    ("a number over FP64", "scaled", b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,1e400,3]}]}', [], 400, "inputs[0].data: value 1 is 1e400"),
    ("an integer of 400 digits", "int64", b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"INT64","data":[1,%s]}]}' % (b"9" * 400), [], 400, "inputs[0].data: value 1 is 999"),
    ("NaN", "scaled", b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,NaN,3]}]}', [], 400, "data"),
    ("Infinity", "scaled", b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,-Infinity,3]}]}', [], 400, "data"),
    ("a leading zero", "scaled", b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,01,3]}]}', [], 400, "JSON"),
    ("a bare fraction", "scaled", b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,.5,3]}]}', [], 400, "JSON"),
    ("nesting over 100", "scaled", deep(150), [], 400, "nest"),
    ("nesting of 100,000", "scaled", deep(100_000), [], 400, "nest"),
    ("nesting of keys", "scaled", b'{"a":' * 50_000 + b"1" + b"}" * 50_000, [], 400, "nest"),
    ("INT8 over", "int8", request({"name": "x", "shape": [1, 2], "datatype": "INT8", "data": [1, 128]}), [], 400, "data"),
    ("INT8 under", "int8", request({"name": "x", "shape": [1, 2], "datatype": "INT8", "data": [1, -129]}), [], 400, "data"),
    ("UINT8 negative", "uint8", request({"name": "x", "shape": [1, 2], "datatype": "UINT8", "data": [1, -1]}), [], 400, "data"),
    ("INT64 over", "int64", request({"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2**63]}), [], 400, "data"),
    ("UINT64 over", "uint64", request({"name": "x", "shape": [1, 2], "datatype": "UINT64", "data": [1, 2**64]}), [], 400, "data"),
    ("a fraction for integers", "int64", request({"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 1.5]}), [], 400, "data"),
    ("null for integers", "int64", request({"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, None]}), [], 400, "data"),
    ("a number for strings", "text", request({"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", 1]}), [], 400, "data"),
    ("null for strings", "text", request({"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", None]}), [], 400, "data"),
    ("2 for BOOL", "bool", request({"name": "x", "shape": [1, 2], "datatype": "BOOL", "data": [True, 2]}), [], 400, "data"),
    ("id not a string", "scaled", request(x(), id=5), [], 400, "id"),
    ("parameters not an object", "scaled", request(x(), parameters=[]), [], 400, "parameters"),
    ("timeout negative", "scaled", request(x(), parameters={"timeout": -5}), [], 400, "timeout"),
    ("timeout not a number", "scaled", request(x(), parameters={"timeout": "5"}), [], 400, "timeout"),
    ("timeout boolean", "scaled", request(x(), parameters={"timeout": True}), [], 400, "timeout"),
    ("data with binary_data_size", "scaled", request(x(parameters={"binary_data_size": 12})) + RAW, ["L"], 400, "binary_data_size"),
    ("binary too short", "scaled", request(BINARY) + RAW[:-1], ["L"], 400, "inputs[0]"),
    ("binary left over", "scaled", request(BINARY) + RAW + b"!", ["L"], 400, "binary"),
    ("binary size against shape", "scaled", request(x(data=None, parameters={"binary_data_size": 8})) + RAW[:8], ["L"], 400, "binary_data_size"),
    ("binary size negative", "scaled", request(x(data=None, parameters={"binary_data_size": -12})) + RAW, ["L"], 400, "binary_data_size"),
    ("binary size no integer", "scaled", request(x(data=None, parameters={"binary_data_size": "12"})) + RAW, ["L"], 400, "binary_data_size"),
    ("binary without its header", "scaled", request(BINARY), [], 400, "inputs[0]"),
    ("header length over the body", "scaled", GOOD, ["Inference-Header-Content-Length: 9999"], 400, "Inference-Header-Content-Length"),
    ("header length 20 digits", "scaled", GOOD, ["Inference-Header-Content-Length: 99999999999999999999"], 400, "Inference-Header-Content-Length"),
    ("header length negative", "scaled", GOOD, ["Inference-Header-Content-Length: -1"], 400, "Inference-Header-Content-Length"),
    ("header length no number", "scaled", GOOD, ["Inference-Header-Content-Length: ten"], 400, "Inference-Header-Content-Length"),
    ("header length cuts the JSON", "scaled", GOOD, ["Inference-Header-Content-Length: 10"], 400, "JSON"),
    ("leftover bytes", "scaled", GOOD + b"1234", [f"Inference-Header-Content-Length: {len(GOOD)}"], 400, "binary"),
    ("raw binary of the wrong size", "scaled", RAW[:-2], ["Inference-Header-Content-Length: 0"], 400, "x"),
    ("raw binary for two inputs", "pipeline", RAW, ["Inference-Header-Content-Length: 0"], 400, "input"),
    ("timeout header no number", "scaled", GOOD, ["X-Request-Timeout-Ms: soon"], 400, "X-Request-Timeout-Ms"),
    ("a row that the model cannot run", "picky", request({"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [99]}), [], 500, "model"),
    ("lengths that differ", "pair", pair(3, 4), [], 400, "input 'b' has 4 in dimension 1 where input 'a' has 3 in dimension 1"),
    ("unknown encoding", "scaled", GOOD, ["Content-Encoding: br"], 415, "Content-Encoding"),
    ("corrupt gzip", "scaled", b"\x1f\x8b\x08garbage", ["Content-Encoding: gzip"], 400, "gzip"),
]  # fmt: skip


def wire(path: str, content: bytes, headers: list[str]) -> bytes:
    if headers == ["L"]:
        end = content.index(b"}]}") + 3
        headers = [f"Inference-Header-Content-Length: {end}"]
    return post(f"/v2/models/{path}/infer", content, *headers)


@pytest.mark.parametrize(
    ("name", "path", "content", "headers", "code", "names"), BAD, ids=[case[0] for case in BAD]
)
def test_bad_input(
    both: SimpleNamespace, name: str, path: str, content: bytes, headers: list[str], code: int, names: str
) -> None:
    sent = wire(path, content, headers)
    with both.fast.connect() as fast, both.ordinary.connect() as ordinary:
        answers = [fast.ask(sent), ordinary.ask(sent)]
        assert answers[0] == answers[1]
        assert status(answers[0]) == code, answers[0]
        error = json.loads(body(answers[0]))
        assert list(error) == ["error"]
        assert names.lower() in error["error"].lower(), error
        # the connection and the model go on
        good = post("/v2/models/scaled/infer", GOOD)
        assert fast.ask(good) == ordinary.ask(good)
        assert json.loads(body(fast.ask(good)))["outputs"][0]["data"] == [2.0, 5.0, 6.0]


@pytest.mark.parametrize(
    "sent",
    [
        request(x(), id=None, parameters=None, outputs=None),
        request(x(parameters=None)),
        request(x(), outputs=[{"name": "y", "parameters": None}]),
    ],
)
def test_a_key_that_is_null_is_not_there(both: SimpleNamespace, sent: bytes) -> None:
    """Clients whose types have every key, KServe's for one, write it so."""
    with both.fast.connect() as fast, both.ordinary.connect() as ordinary:
        for bytes_ in (post("/v2/models/scaled/infer", sent), post("/v2/models/scaled/infer", GOOD)):
            answers = {
                fast.ask(bytes_),
                ordinary.ask(bytes_),
                fast.ask(post("/v2/models/scaled/infer", GOOD)),
            }
            assert len({body(answer) for answer in answers}) == 1
            assert {status(answer) for answer in answers} == {200}


# Malformed at the level of HTTP: answered with JSON, then the connection ends.
HOSTILE: list[tuple[str, bytes, int, str]] = [
    ("two Content-Lengths", b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "Content-Length"),
    ("two equal Content-Lengths", b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, "Content-Length"),
    ("Content-Length with Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Transfer-Encoding"),
    ("Content-Length with a sign", b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: +5\r\n\r\n", 400, "Content-Length"),
    ("Content-Length of 30 digits", b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", 400, "Content-Length"),
    ("obs-fold", b"GET /v2 HTTP/1.1\r\nHost: t\r\nX-A: b\r\n c\r\n\r\n", 400, "fold"),
    ("bare LF", b"GET /v2 HTTP/1.1\nHost: t\n\n", 400, "line feed"),
    ("NUL in a header", b"GET /v2 HTTP/1.1\r\nHost: t\r\nX-A: b\x00c\r\n\r\n", 400, "NUL"),
    ("a space before the colon", b"GET /v2 HTTP/1.1\r\nHost : t\r\n\r\n", 400, "header"),
    ("a head over 64 KiB", b"GET /v2 HTTP/1.1\r\nHost: t\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n", 431, "head"),
    ("a head over 64 KiB that never ends", b"GET /v2 HTTP/1.1\r\nHost: t\r\nX-A: " + b"a" * 70_000, 431, "head"),
    ("no Host", b"GET /v2 HTTP/1.1\r\n\r\n", 400, "Host"),
    ("HTTP/2", b"GET /v2 HTTP/2.0\r\nHost: t\r\n\r\n", 505, "HTTP"),
    ("unknown transfer coding", b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "Transfer-Encoding"),
    ("a body over the limit", b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1048577\r\n\r\n", 413, "1048576"),
    ("a body of 2^62", b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 4611686018427387904\r\n\r\n", 413, "1048576"),
    ("a chunk over the limit", b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413, "1048576"),
    ("an unknown method", b"BREW /v2 HTTP/1.1\r\nHost: t\r\n\r\n", 501, "'BREW'"),
    ("a method in small letters", b"post /v2 HTTP/1.1\r\nHost: t\r\n\r\n", 501, "'post'"),
    ("CONNECT", b"CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n", 501, "'CONNECT'"),
    ("a target without a slash", b"GET v2 HTTP/1.1\r\nHost: t\r\n\r\n", 400, "'v2'"),
    ("a target outside ASCII", b"GET /v2/models/\xc3\xa9 HTTP/1.1\r\nHost: t\r\n\r\n", 400, "%XX"),
    ("malformed chunks", b"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "chunk"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sent", "code", "names"), HOSTILE, ids=[case[0] for case in HOSTILE])
def test_hostile_http(both: SimpleNamespace, name: str, sent: bytes, code: int, names: str) -> None:
    answers = []
    for way in (both.fast, both.ordinary):
        with way.connect() as connection:
            answers.append(connection.ask(sent))
            assert connection.closed()
    assert answers[0] == answers[1]
    assert status(answers[0]) == code, answers[0]
    assert names.lower() in json.loads(body(answers[0]))["error"].lower()
    assert b"connection: close" in answers[0]


@pytest.mark.parametrize("query", ["", "?", "?x=http://other/y"])
@pytest.mark.parametrize("server", ["http://h", "https://h:8000", "http://[::1]:80"])
def test_an_absolute_target_without_a_path_means_the_root(
    both: SimpleNamespace, server: str, query: str
) -> None:
    for way in (both.fast, both.ordinary):
        with way.connect() as connection:
            targets = (f"/{query}", f"{server}/{query}", f"{server}{query}")
            root, *others = [
                connection.ask(f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n".encode()) for target in targets
            ]
        assert status(root) == 200
        assert others == [root, root]


@pytest.mark.parametrize(
    "header",
    [
        "X-Request-Timeout-Ms: 5000 \t",
        f"Inference-Header-Content-Length: \t{len(GOOD)} ",
        "Content-Type: text/plain ",
    ],
)
def test_white_space_around_a_value_is_none_of_it(both: SimpleNamespace, header: str) -> None:
    sent = post("/v2/models/scaled/infer", GOOD, header)
    with both.fast.connect() as fast, both.ordinary.connect() as ordinary:
        answers = [fast.ask(sent), ordinary.ask(sent)]
    assert status(answers[0]) == 200
    assert answers[0] == answers[1]


def test_requests_of_different_lengths_at_once(both: SimpleNamespace) -> None:
    """One length within a request, any beside it; what the model cannot run is no failure of the model."""
    lengths = [(size, size + (turn > 1)) for turn in range(6) for size in (2, 3, 5)]
    for way in (both.fast, both.ordinary):
        connections = [way.connect() for _ in lengths]
        for connection, each in zip(connections, lengths, strict=True):
            connection.raw.sendall(post("/v2/models/pair/infer", pair(*each)))
        for connection, (a, b) in zip(connections, lengths, strict=True):
            with connection:
                answer = connection.response()
                assert status(answer) == (200 if a == b else 400)
                if a == b:
                    assert json.loads(body(answer))["outputs"][0]["data"] == [2.0] * a
        assert way.worker.plane.resolve("pair").stats.failed_runs == 0


def test_a_length_that_the_model_stretches(both: SimpleNamespace) -> None:
    """Names of dimensions are the exporter's: what the model runs is answered."""
    for way in (both.fast, both.ordinary):
        with way.connect() as connection:
            answer = connection.ask(post("/v2/models/pair/infer", pair(3, 1)))
        assert json.loads(body(answer))["outputs"][0]["data"] == [2.0] * 3


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_a_tensor_without_dimensions(both: SimpleNamespace, binary: bool) -> None:
    tensor = {"name": "x", "shape": [], "datatype": "INT32", "data": [5]}
    sent = post("/v2/models/one/infer", request(tensor, parameters={"binary_data_output": binary}))
    with both.fast.connect() as fast, both.ordinary.connect() as ordinary:
        answers = [fast.ask(sent), ordinary.ask(sent)]
    assert answers[0] == answers[1]
    end = body(answers[0]).index(b"}]}") + 3 if not binary else body(answers[0]).rindex(b"]}") + 2
    (output,) = json.loads(body(answers[0])[:end])["outputs"]
    assert output["shape"] == []
    if not binary:
        assert output["data"] == [5]


def test_the_fast_path_takes_what_it_should(both: SimpleNamespace) -> None:
    """Without this the whole file could compare the ordinary path with itself."""
    before = both.fast.fast_requests
    with both.fast.connect() as connection:
        for _ in range(5):
            connection.ask(post("/v2/models/scaled/infer", GOOD))
            connection.ask(post("/v2/models/scaled/versions/1/infer", GOOD))
    assert both.fast.fast_requests == before + 10
    assert both.ordinary.fast_requests == 0


INFER = "/v2/models/scaled/infer"
FAILING = b'{"inputs":[{"name":"row","shape":[1,1],"datatype":"INT64","data":[-77]}]}'
LAST = {
    "close": post(INFER, GOOD, "Connection: close"),
    "HTTP/1.0": post(INFER, GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HTTP/1.0 keep-alive": post(INFER, GOOD, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "close, wrong": post(INFER, GOOD[:-1], "Connection: close"),
    "close, compressed": post(INFER, GOOD, "Connection: close", "Accept-Encoding: gzip"),
    "close, failing": post("/v2/models/picky/infer", FAILING, "Connection: close"),
}


@pytest.mark.parametrize("sent", LAST.values(), ids=LAST)
def test_the_last_request_of_a_connection(both: SimpleNamespace, sent: bytes) -> None:
    taken = both.fast.fast_requests
    answers = []
    for way in (both.fast, both.ordinary):
        with way.connect() as connection:
            answers.append(connection.ask(sent + post(INFER, GOOD)))
            assert connection.closed()
    assert answers[0] == answers[1]
    assert b"\r\nconnection: close\r\n" in answers[0]
    assert both.fast.fast_requests - taken == (status(answers[0]) != 400)
