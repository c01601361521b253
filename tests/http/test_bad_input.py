"""Every bad infer request on the ordinary path: status, and the field that the sentence names."""

import json
import logging
from typing import Any

import pytest

from fastserve.errors import (
    DeadlineExceeded,
    FastserveError,
    InvalidRequest,
    ModelFailed,
    NotFound,
    QueueFull,
)
from fastserve.frontends.http import errors
from fastserve.frontends.http.tensors import from_binary, from_json
from fastserve.frontends.http.v2_codec import decode
from fastserve.log import Seldom
from fastserve.types import DataType, Signature, TensorSpec
from tests.http.asgi import Client
from tests.http.plain_dataplane import PlainDataPlane

X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
BINARY = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
HEADER = "Inference-Header-Content-Length"


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in X.items() if k != key}


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**X, **changes}]}


BODIES: dict[str, tuple[Any, str]] = {
    "not an object": ([], "body"),
    "no inputs": ({}, "inputs"),
    "inputs not a list": ({"inputs": {}}, "inputs"),
    "input not an object": ({"inputs": [1]}, "inputs[0]"),
    "missing input": ({"inputs": []}, "input 'x' is missing"),
    "unknown input": (tensor(name="z"), "inputs[0].name"),
    "name missing": ({"inputs": [without("name")]}, "inputs[0].name"),
    "name not a string": (tensor(name=1), "inputs[0].name"),
    "duplicate input": ({"inputs": [X, X]}, "inputs[1].name"),
    "wrong datatype": (tensor(datatype="FP64"), "inputs[0].datatype"),
    "datatype missing": ({"inputs": [without("datatype")]}, "inputs[0].datatype"),
    "shape missing": ({"inputs": [without("shape")]}, "inputs[0].shape"),
    "wrong width": (tensor(shape=[1, 4], data=[1, 2, 3, 4]), "inputs[0].shape"),
    "wrong rank": (tensor(shape=[3]), "inputs[0].shape"),
    "negative dim": (tensor(shape=[-1, 3]), "inputs[0].shape"),
    "two negative dims": (tensor(shape=[-1, -3]), "inputs[0].shape"),
    "float dim": (tensor(shape=[1.0, 3]), "inputs[0].shape"),
    "bool dim": (tensor(shape=[True, 3]), "inputs[0].shape"),
    "null dim": (tensor(shape=[None, 3]), "inputs[0].shape"),
    "shape overflow": (tensor(shape=[2**62, 3]), "inputs[0].shape"),
    "shape overflow to the right size": (tensor(shape=[2**63 + 1, 3]), "inputs[0].shape"),
    "shape of many dims": (tensor(shape=[1] * 10_000), "inputs[0].shape"),
    "huge shape": (tensor(shape=[10**12, 3]), "inputs[0].data"),
    "no rows": (tensor(shape=[0, 3], data=[]), "inputs[0].shape"),
    "data missing": ({"inputs": [without("data")]}, "inputs[0].data"),
    "data null": (tensor(data=None), "inputs[0].data"),
    "data an object": (tensor(data={}), "inputs[0].data"),
    "data too short": (tensor(data=[1, 2]), "inputs[0].data"),
    "data too long": (tensor(data=[1, 2, 3, 4]), "inputs[0].data"),
    "data empty": (tensor(data=[]), "inputs[0].data"),
    "too few rows": (tensor(shape=[2, 3], data=[[1, 2, 3]]), "inputs[0].data"),
    "ragged": (tensor(shape=[2, 3], data=[[1, 2, 3], [4, 5]]), "inputs[0].data"),
    "half nested": (tensor(shape=[2, 3], data=[[1, 2, 3], 4, 5, 6]), "inputs[0].data"),
    "nested too deep": (tensor(data=[[[1], [2], [3]]]), "inputs[0].data"),
    "string in numbers": (tensor(data=[1, "2", 3]), "inputs[0].data"),
    "bool in numbers": (tensor(data=[1, True, 3]), "inputs[0].data"),
    "object in numbers": (tensor(data=[1, {}, 3]), "inputs[0].data"),
    "list in flat data": (tensor(data=[1, [2], 3]), "inputs[0].data"),
    "out of FP32": (tensor(data=[1, 3.5e38, 3]), "inputs[0].data"),
    "id a number": ({**tensor(), "id": 7}, "id"),
    "parameters a list": ({**tensor(), "parameters": []}, "parameters"),
    "tensor parameters a list": (tensor(parameters=[]), "inputs[0].parameters"),
    "timeout negative": ({**tensor(), "parameters": {"timeout": -1}}, "parameters.timeout"),
    "timeout a bool": ({**tensor(), "parameters": {"timeout": True}}, "parameters.timeout"),
    "timeout a float": ({**tensor(), "parameters": {"timeout": 1.5}}, "parameters.timeout"),
    "timeout a string": ({**tensor(), "parameters": {"timeout": "1"}}, "parameters.timeout"),
    "timeout huge": ({**tensor(), "parameters": {"timeout": 2**63}}, "parameters.timeout"),
    "binary_data_output a number": (
        {**tensor(), "parameters": {"binary_data_output": 1}},
        "parameters.binary_data_output",
    ),
    "sequence": ({**tensor(), "parameters": {"sequence_id": 3}}, "sequence_id"),
    "shared memory": (tensor(parameters={"shared_memory_region": "r"}), "shared_memory_region"),
    "outputs an object": ({**tensor(), "outputs": {}}, "outputs"),
    "output not an object": ({**tensor(), "outputs": ["y"]}, "outputs[0]"),
    "output without name": ({**tensor(), "outputs": [{}]}, "outputs[0].name"),
    "unknown output": ({**tensor(), "outputs": [{"name": "y"}, {"name": "q"}]}, "outputs[1].name"),
    "duplicate output": ({**tensor(), "outputs": [{"name": "y"}, {"name": "y"}]}, "outputs[1].name"),
    "classification": (
        {**tensor(), "outputs": [{"name": "y", "parameters": {"classification": 2}}]},
        "classification",
    ),
    "binary_data a string": (
        {**tensor(), "outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]},
        "outputs[0].parameters.binary_data",
    ),
    "data and binary": (tensor(parameters={"binary_data_size": 12}), "inputs[0].data"),
    "binary without header": ({"inputs": [BINARY]}, "inputs[0].parameters.binary_data_size"),
}


@pytest.mark.parametrize(("body", "names"), BODIES.values(), ids=BODIES)
def test_a_bad_body_is_400_and_names_the_field(client: Client, body: Any, names: str) -> None:
    answer = client.post("/v2/models/scaled/infer", body)
    assert answer.status == 400
    assert names in answer.error


TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body"),
    "white space": (b" \n", "body"),
    "not JSON": (b"inputs", "body"),
    "truncated": (json.dumps(tensor()).encode()[:-3], "body"),
    "trailing": (json.dumps(tensor()).encode() + b"x", "body"),
    "two documents": (json.dumps(tensor()).encode() * 2, "body"),
    "trailing comma": (b'{"inputs":[],}', "body"),
    "not UTF-8": (b'{"inputs":"\xff"}', "body"),
    "lone surrogate": (b'{"id":"\\ud800"}', "body"),
    "byte order mark": (b"\xef\xbb\xbf{}", "body"),
    "NaN": (json.dumps(tensor(data=[1, float("nan"), 3])).encode(), "inputs[0].data"),
    "Infinity": (json.dumps(tensor(data=[1, float("inf"), 3])).encode(), "inputs[0].data"),
    "minus Infinity": (json.dumps(tensor(data=[[1, -float("inf"), 3]])).encode(), "inputs[0].data"),
    "out of FP64": (json.dumps(tensor(data=["?", 2, 3])).replace('"?"', "1e400").encode(), "inputs[0].data"),
    "leading zero": (json.dumps(tensor(data=["?", 2, 3])).replace('"?"', "01").encode(), "body"),
    "leading plus": (json.dumps(tensor(data=["?", 2, 3])).replace('"?"', "+1").encode(), "body"),
    "no digit after the point": (json.dumps(tensor(data=["?", 2, 3])).replace('"?"', "1.").encode(), "body"),
    "hexadecimal": (json.dumps(tensor(data=["?", 2, 3])).replace('"?"', "0x10").encode(), "body"),
    "deep list": (b"[" * 101 + b"]" * 101, "100 levels"),
    "deep in data": (
        json.dumps(tensor(data="?")).replace('"?"', "[" * 98 + "]" * 98).encode(),
        "100 levels",
    ),
    "a quarter million levels": (b"[" * 30_000, "100 levels"),
    "deep objects": (b'{"a":' * 101 + b"1" + b"}" * 101, "100 levels"),
}


@pytest.mark.parametrize(("body", "names"), TEXTS.values(), ids=TEXTS)
def test_bad_json_is_400_and_names_the_field(client: Client, body: bytes, names: str) -> None:
    answer = client.post("/v2/models/scaled/infer", body)
    assert answer.status == 400
    assert names in answer.error


def test_depth_100_is_not_too_deep(client: Client) -> None:
    body = json.dumps({**tensor(), "more": "?"}).replace('"?"', "[" * 99 + "]" * 99).encode()
    assert client.post("/v2/models/scaled/infer", body).status == 200


RANGES = [
    ("INT8", "-129"),
    ("INT8", "128"),
    ("UINT8", "-1"),
    ("UINT8", "256"),
    ("INT16", "32768"),
    ("UINT16", "65536"),
    ("INT32", "2147483648"),
    ("UINT32", "4294967296"),
    ("INT64", "9223372036854775808"),
    ("INT64", "-9223372036854775809"),
    ("INT64", "1e300"),
    ("UINT64", "18446744073709551616"),
    ("UINT64", "-1"),
    ("INT32", "1.5"),
    ("INT32", "null"),
    ("INT32", "true"),
    ("INT32", '"1"'),
    ("FP16", "65520"),
    ("FP32", "3.4028235677973366e38"),
    ("FP64", "1.7976931348623159e308"),
    ("FP64", "-1e309"),
    ("FP64", '"1"'),
    ("FP32", "false"),
    ("BOOL", "2"),
    ("BOOL", "-1"),
    ("BOOL", "1.0"),
    ("BOOL", "null"),
    ("BOOL", '"true"'),
    ("BYTES", "1"),
    ("BYTES", "null"),
    ("BYTES", "true"),
    ("BYTES", "[]"),
]


@pytest.mark.parametrize(("datatype", "text"), RANGES)
def test_a_value_that_the_type_cannot_hold_is_400(client: Client, datatype: str, text: str) -> None:
    body = f'{{"inputs":[{{"name":"x","shape":[1],"datatype":"{datatype}","data":[{text}]}}]}}'
    answer = client.post(f"/v2/models/bare-{datatype}/infer", body.encode())
    assert answer.status == 400
    assert "inputs[0].data" in answer.error


# -- binary -----------------------------------------------------------------------------------------------


def binary(
    size: Any, tail: bytes, claimed: int | str | None = None, **changes: Any
) -> tuple[bytes, dict[str, str]]:
    text = json.dumps({"inputs": [{**BINARY, "parameters": {"binary_data_size": size}, **changes}]}).encode()
    return text + tail, {HEADER: str(len(text) if claimed is None else claimed)}


BINARIES: dict[str, tuple[tuple[bytes, dict[str, str]], str]] = {
    "size is not shape times width": (binary(8, bytes(8)), "inputs[0].parameters.binary_data_size"),
    "size negative": (binary(-12, bytes(12)), "inputs[0].parameters.binary_data_size"),
    "size a string": (binary("12", bytes(12)), "inputs[0].parameters.binary_data_size"),
    "size a float": (binary(12.0, bytes(12)), "inputs[0].parameters.binary_data_size"),
    "size a bool": (binary(True, bytes(12)), "inputs[0].parameters.binary_data_size"),
    "size huge": (binary(2**63, bytes(12)), "inputs[0].parameters.binary_data_size"),
    "short bytes": (binary(12, bytes(11)), "inputs[0].parameters.binary_data_size"),
    "left-over bytes": (binary(12, bytes(13)), "body"),
    "length of the JSON negative": (binary(12, bytes(12), -1), HEADER),
    "length of the JSON a word": (binary(12, bytes(12), "many"), HEADER),
    "length of the JSON signed": (binary(12, bytes(12), "+5"), HEADER),
    "length of the JSON empty": (binary(12, bytes(12), ""), HEADER),
    "length of the JSON over the body": (binary(12, bytes(12), 10_000), HEADER),
    "length of the JSON past 64 bits": (binary(12, bytes(12), "9" * 30), HEADER),
    "length of the JSON too small": (binary(12, bytes(12), 10), "body"),
    "length of the JSON too large": (binary(12, bytes(12), 120), "body"),
    "raw body of the wrong size": ((bytes(11), {HEADER: "0"}), "body"),
    "raw body empty": ((b"", {HEADER: "0"}), "body"),
}


@pytest.mark.parametrize(("request_", "names"), BINARIES.values(), ids=BINARIES)
def test_bad_binary_data_is_400(client: Client, request_: tuple[bytes, dict[str, str]], names: str) -> None:
    answer = client.post("/v2/models/scaled/infer", *request_)
    assert answer.status == 400
    assert names in answer.error


def test_a_second_json_length_is_refused_even_when_equal(client: Client) -> None:
    body = json.dumps(tensor()).encode()
    headers = [(HEADER, str(len(body))), (HEADER, str(len(body)))]
    answer = client.call("POST", "/v2/models/scaled/infer", [body], headers)
    assert (answer.status, HEADER in answer.error) == (400, True)


def test_raw_binary_needs_a_model_with_one_input(client: Client) -> None:
    answer = client.post("/v2/models/pipeline/infer", bytes(4), {HEADER: "0"})
    assert (answer.status, "one input" in answer.error) == (400, True)


@pytest.mark.parametrize(("shape", "batched"), [((4, -1, -1), False), ((-1, -1, -1), True)])
def test_raw_binary_solves_for_one_dimension_only(shape: tuple[int, ...], batched: bool) -> None:
    signature = Signature((TensorSpec("x", DataType.FP32, shape),), (), batched)
    with pytest.raises(InvalidRequest, match="at most one variable dimension, input 'x' has shape"):
        decode(bytes(64), 0, signature, 100)


STRINGS = {
    "short length": b"\x01\x00",
    "length past the end": b"\x05\x00\x00\x00abcd",
    "length near 2^32": b"\xff\xff\xff\xffabcd",
    "left-over bytes": b"\x01\x00\x00\x00ab",
    "not UTF-8": b"\x01\x00\x00\x00\xff",
}


@pytest.mark.parametrize("data", STRINGS.values(), ids=STRINGS)
def test_bad_binary_strings_are_400(client: Client, data: bytes) -> None:
    body, headers = binary(len(data), data, shape=[1], datatype="BYTES")
    answer = client.post("/v2/models/bare-BYTES/infer", body, headers)
    assert answer.status == 400
    assert "inputs[0].parameters.binary_data_size" in answer.error


def test_a_raw_string_that_is_not_utf8_is_400(client: Client) -> None:
    answer = client.post("/v2/models/bare-BYTES/infer", b"a\xff", {HEADER: "0"})
    assert (answer.status, answer.error) == (400, "body: the data is not valid UTF-8")


def test_binary_bools_are_zero_or_one(client: Client) -> None:
    body, headers = binary(2, b"\x01\x02", shape=[2], datatype="BOOL")
    answer = client.post("/v2/models/bare-BOOL/infer", body, headers)
    assert (answer.status, "inputs[0].parameters.binary_data_size" in answer.error) == (400, True)


def test_a_tensor_of_no_bytes_is_empty_and_not_wrong() -> None:
    for datatype in DataType:
        assert from_binary(memoryview(b""), datatype, (0, 2), "x").shape == (0, 2)


@pytest.mark.parametrize(
    ("data", "datatype", "message"),
    [
        ([1, 127, -128, 128], DataType.INT8, "x: value 3 is 128, which is out of the range of INT8"),
        ([0, -1, 300], DataType.UINT8, "x: value 1 is -1, which is out of the range of UINT8"),
        ([2**63 - 1, 2**63], DataType.INT64, f"x: value 1 is {2**63}, which is out of the range of INT64"),
    ],
)
def test_the_first_value_that_is_out_of_range_is_named(
    data: list[int], datatype: DataType, message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        from_json(data, datatype, (len(data),), "x")
    assert str(refused.value) == message


# -- addresses and headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/nothing/infer",
        "/v2/models/scaled/versions/9/infer",
        "/v2/models/scaled/versions/x/infer",
        "/v2/models/../infer",
        "/v2/models/%00/infer",
        "/v2/models/%2e%2e%2fscaled/infer",
        "/v2/models/" + "m" * 5_000 + "/infer",
    ],
)
def test_an_unknown_model_or_version_is_404(client: Client, path: str) -> None:
    answer = client.post(path, tensor())
    assert answer.status == 404
    assert len(answer.error) < 400


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "1000000001", "9" * 40])
def test_a_bad_timeout_header_is_400(client: Client, value: str) -> None:
    answer = client.post("/v2/models/scaled/infer", tensor(), {"X-Request-Timeout-Ms": value})
    assert (answer.status, "X-Request-Timeout-Ms" in answer.error) == (400, True)


def test_users_text_in_an_error_is_short_and_printable(client: Client) -> None:
    answer = client.post("/v2/models/scaled/infer", tensor(name="\x00\n" * 5_000))
    assert answer.status == 400
    assert len(answer.error) < 400
    assert answer.error.isprintable()


def test_a_model_that_fails_is_500_without_internals(client: Client) -> None:
    row = {"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [7]}
    answer = client.post("/v2/models/failing/infer", {"inputs": [row]})
    assert (answer.status, "the model failed" in answer.error) == (500, True)


def test_a_crash_is_500_without_internals(client: Client, plane: PlainDataPlane) -> None:
    plane.crash = KeyError("/secret/path")
    answer = client.post("/v2/models/scaled/infer", tensor())
    assert answer.status == 500
    assert "secret" not in answer.error


def test_the_log_is_told_what_is_not_the_clients_doing_once(
    client: Client, plane: PlainDataPlane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(errors, "_seldom", Seldom())
    caplog.set_level(logging.INFO, "fastserve.http")

    def told(failure: FastserveError | None = None, crash: Exception | None = None) -> list[tuple[str, bool]]:
        caplog.clear()
        plane.failure, plane.crash = failure, crash
        for _ in range(3):
            client.post("/v2/models/scaled/infer", tensor())
        return [(record.getMessage(), record.exc_info is not None) for record in caplog.records]

    assert told(InvalidRequest("no")) == told(NotFound("no")) == []
    assert told(QueueFull("m", 9)) == told(DeadlineExceeded("m")) == []
    assert told(ModelFailed("it broke")) == [("request failed: the model failed: it broke", False)]
    assert told(crash=KeyError("k")) == [("POST '/v2/models/scaled/infer' crashed", True)]
