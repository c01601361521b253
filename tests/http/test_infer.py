"""Good infer requests on the ordinary path, in every form that the protocol allows."""

import asyncio
import json
import struct
from typing import Any, cast

import numpy as np
import pytest
from starlette.requests import Request

from fastserve.dataplane import DataPlane
from fastserve.errors import DeadlineExceeded, FastserveError, InvalidRequest, NotReady, QueueFull
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.counting import LEFT, REFUSED, counted
from tests.http.asgi import Answer, Client
from tests.http.conftest import OPTIONS
from tests.http.plain_dataplane import PlainDataPlane

HEADER = "Inference-Header-Content-Length"
X = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
BODY = {"inputs": [X]}


def tensors(answer: Answer) -> dict[str, Any]:
    """Outputs of an answer by name, as lists for JSON and bytes for binary."""
    assert answer.status == 200, answer.body
    length = answer.header("inference-header-content-length")
    split = len(answer.body) if length is None else int(length)
    found: dict[str, Any] = {}
    for output in json.loads(answer.body[:split])["outputs"]:
        if "data" in output:
            found[output["name"]] = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]] = answer.body[split : split + size]
            split += size
    assert split == len(answer.body)
    return found


def test_the_answer_has_the_documented_form(client: Client) -> None:
    answer = client.post("/v2/models/scaled/versions/1/infer", {"id": "a/é", **BODY})
    assert (
        answer.body
        == (
            '{"model_name":"scaled","model_version":"1","id":"a/é","outputs":'
            '[{"name":"y","datatype":"FP32","shape":[2,3],"data":[2.0,4.0,6.0,8.0,10.0,12.0]}]}'
        ).encode()
    )
    assert answer.headers == [("content-length", str(len(answer.body))), ("content-type", "application/json")]


def test_without_a_version_the_highest_answers(client: Client) -> None:
    answer = client.post("/v2/models/scaled/infer", BODY)
    assert answer.json()["model_version"] == "2"
    assert tensors(answer)["y"] == [3, 6, 9, 12, 15, 18]


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": [{**X, "data": [[1, 2, 3], [4, 5, 6]]}]},
        {"inputs": [{**X, "unknown": {"a": [1]}}], "unknown": [[]]},
        {"inputs": [X], "id": "", "parameters": {}, "outputs": []},
        {"inputs": [X], "parameters": {"priority": 1, "anything": "goes", "timeout": 0}},
        {"inputs": [X], "outputs": [{"name": "y", "parameters": {"binary_data": False}}]},
        {"inputs": [{**X, "data": [1.0, 2e0, 3, 4, 5, 6]}]},
        {"inputs": [{**X, "data": [1, 2, 3, 4, 5, 6], "parameters": {}}]},
    ],
)
def test_many_ways_of_asking_the_same(client: Client, changes: dict[str, Any]) -> None:
    assert (
        client.post("/v2/models/scaled/infer", changes).body
        == client.post("/v2/models/scaled/infer", BODY).body
    )


def test_of_equal_keys_the_last_counts(client: Client) -> None:
    text = json.dumps(BODY).replace('"data"', '"data": [9], "data"')
    assert tensors(client.post("/v2/models/scaled/infer", text.encode()))["y"] == [3, 6, 9, 12, 15, 18]


def test_null_is_nan_and_nan_is_null(client: Client) -> None:
    body = {"inputs": [{**X, "data": [None, 2, 3, 4, 5, 6]}]}
    assert tensors(client.post("/v2/models/scaled/infer", body))["y"] == [None, 6, 9, 12, 15, 18]


EXAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.4028234663852886e38],
    "FP64": [0.1, 5e-324],
    "BYTES": ['é"\\\n😀', ""],
}


@pytest.mark.parametrize("datatype", EXAMPLES)
def test_every_datatype_in_json(client: Client, datatype: str) -> None:
    values = EXAMPLES[datatype]
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}]}
    found = tensors(client.post(f"/v2/models/row-{datatype}/infer", body))["y"]
    if datatype == "FP32":
        assert np.array_equal(np.array(found, np.float32), np.array(values, np.float32))
    else:
        assert found == values


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT32", [1.0, 1e3]),
        ("UINT8", [255.0, -0.0]),
        ("UINT64", [1e19, 18446744073709549568.0]),
        ("INT64", [-9223372036854774784.0, 9223372036854774784.0]),
        ("BOOL", [0, 1]),
    ],
)
def test_whole_numbers_may_be_written_otherwise(client: Client, datatype: str, values: list[Any]) -> None:
    body = {"inputs": [{"name": "x", "shape": [2], "datatype": datatype, "data": values}]}
    assert tensors(client.post(f"/v2/models/bare-{datatype}/infer", body))["y"] == values


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("UINT64", "18446744073709551616"),
        ("UINT64", "1.8446744073709551616e19"),
        ("UINT64", "-1.0"),
        ("INT64", "9223372036854775808.0"),
        ("INT64", "-9223372036854775809"),
        ("INT32", "2147483648.0"),
    ],
)
def test_whole_numbers_beyond_the_ends_of_their_type(client: Client, datatype: str, text: str) -> None:
    body = f'{{"inputs":[{{"name":"x","shape":[2],"datatype":"{datatype}","data":[1.0,{text}]}}]}}'
    answer = client.post(f"/v2/models/bare-{datatype}/infer", body.encode())
    assert answer.status == 400 and b"out of the range" in answer.body


def raw(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values)
    names = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BOOL": "?"}
    return np.array(values, names.get(datatype, datatype.lower())).tobytes()


@pytest.mark.parametrize("datatype", EXAMPLES)
@pytest.mark.parametrize("asked", ["all", "one"])
def test_every_datatype_in_binary(client: Client, datatype: str, asked: str) -> None:
    data = raw(datatype, EXAMPLES[datatype])
    entry = {
        "name": "x",
        "shape": [1, 2],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(data)},
    }
    body: dict[str, Any] = {"inputs": [entry]}
    if asked == "all":
        body["parameters"] = {"binary_data_output": True}
    else:
        body["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    text = json.dumps(body).encode()
    answer = client.post(f"/v2/models/row-{datatype}/infer", text + data, {HEADER: str(len(text))})
    assert tensors(answer)["y"] == data
    assert [name for name, _ in answer.headers] == [
        "inference-header-content-length",
        "content-length",
        "content-type",
    ]
    assert answer.header("content-type") == "application/octet-stream"


@pytest.mark.parametrize("datatype", [name for name in EXAMPLES if name != "BYTES"])
def test_raw_binary_requests(client: Client, datatype: str) -> None:
    data = raw(datatype, EXAMPLES[datatype]) * 3
    answer = client.post(f"/v2/models/row-{datatype}/infer", data, {HEADER: "0"})
    assert tensors(answer)["y"] == data
    assert b'"shape":[3,2]' in answer.body


def test_a_raw_binary_string_is_one_element_without_length(client: Client) -> None:
    answer = client.post("/v2/models/bare-BYTES/infer", "é\0".encode(), {HEADER: "0"})
    assert tensors(answer)["y"] == b"\x03\x00\x00\x00" + "é\0".encode()


def test_a_raw_binary_request_fills_one_variable_dimension(client: Client) -> None:
    answer = client.post(
        "/v2/models/variable/infer", np.array([1, 2, 4], np.float32).tobytes(), {HEADER: "0"}
    )
    assert tensors(answer)["y"] == np.array([7], np.float32).tobytes()


def test_a_json_body_may_come_with_its_length(client: Client) -> None:
    text = json.dumps(BODY).encode()
    answer = client.post("/v2/models/scaled/infer", text, {HEADER: str(len(text))})
    assert tensors(answer)["y"] == [3, 6, 9, 12, 15, 18]


def test_json_and_binary_tensors_mix_both_ways(client: Client) -> None:
    rows = {"carrier": ["UA", "AA"], "origin": ["JFK", "EWR"], "distance": [1400.0, 200.0], "hour": [3, 9]}
    kinds = {"carrier": "BYTES", "origin": "BYTES", "distance": "FP32", "hour": "INT64"}
    plain: list[dict[str, Any]] = [
        {"name": name, "shape": [2, 1], "datatype": kinds[name], "data": values}
        for name, values in rows.items()
    ]
    expected = tensors(client.post("/v2/models/pipeline/infer", {"inputs": plain}))
    tail = b""
    mixed: list[dict[str, Any]] = []
    for i, entry in enumerate(plain):
        if i % 2:
            data = raw(entry["datatype"], entry.pop("data"))
            entry["parameters"] = {"binary_data_size": len(data)}
            tail += data
        mixed.append(entry)
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    text = json.dumps({"inputs": mixed, "outputs": outputs}).encode()
    found = tensors(client.post("/v2/models/pipeline/infer", text + tail, {HEADER: str(len(text))}))
    assert list(found) == ["probabilities", "label"]
    assert found["label"] == expected["label"] == ["late", "on time"]
    assert found["probabilities"] == np.array(expected["probabilities"], np.float32).tobytes()


def test_models_without_a_batch_dimension(client: Client) -> None:
    entry = {"name": "x", "shape": [4, 3], "datatype": "FP32", "data": list(range(12))}
    answer = client.post("/v2/models/fixed/infer", {"inputs": [entry]})
    assert tensors(answer)["y"] == [2.0 * i for i in range(12)]


def test_variable_inner_dimensions(client: Client) -> None:
    entry = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2, 3], [4, 5, 6]]}
    assert tensors(client.post("/v2/models/variable/infer", {"inputs": [entry]}))["y"] == [6, 15]


@pytest.mark.parametrize("values", [{"data": []}, {"parameters": {"binary_data_size": 0}}])
def test_rows_may_have_no_values(client: Client, values: dict[str, Any]) -> None:
    entry = {"name": "x", "shape": [2, 0], "datatype": "FP32", **values}
    assert tensors(client.post("/v2/models/variable/infer", {"inputs": [entry]}))["y"] == [0, 0]


# -- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "header", "timeout_us"),
    [(None, None, None), (5, None, 5), (None, "7", 7_000), (5, "7", 5), (0, "7", 7_000)],
)
def test_the_deadline_comes_from_the_parameter_or_else_the_header(
    client: Client, plane: PlainDataPlane, parameter: int | None, header: str | None, timeout_us: int | None
) -> None:
    body = {**BODY, "parameters": {} if parameter is None else {"timeout": parameter}}
    client.post("/v2/models/scaled/infer", body, {} if header is None else {"X-Request-Timeout-Ms": header})
    assert plane.timeouts_us == [timeout_us]
    assert plane.deadlines_ns[0] == (None if timeout_us is None else timeout_us * 1_000)


ERRORS: list[tuple[FastserveError, int, list[tuple[str, str]]]] = [
    (QueueFull("scaled", 10, 3), 503, [("retry-after", "3")]),
    (DeadlineExceeded("scaled"), 504, []),
    (NotReady("scaled", "1", "draining"), 503, [("retry-after", "1")]),
]


@pytest.mark.parametrize(("error", "status", "headers"), ERRORS)
def test_errors_of_the_data_plane(
    client: Client, plane: PlainDataPlane, error: FastserveError, status: int, headers: list[tuple[str, str]]
) -> None:
    plane.failure = error
    answer = client.post("/v2/models/scaled/infer", BODY)
    assert (answer.status, answer.error) == (status, str(error))
    assert answer.headers == [
        *headers,
        ("content-length", str(len(answer.body))),
        ("content-type", "application/json"),
    ]


def test_a_client_that_leaves_while_the_model_runs_cancels_the_request(plane: PlainDataPlane) -> None:
    app = create_app(cast(DataPlane, plane), OPTIONS)
    body = json.dumps(BODY).encode()
    sent: list[Any] = []

    async def leave_while_waiting() -> None:
        plane.pause = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await app(Client._scope("POST", "/v2/models/scaled/infer", []), receive, send)

    asyncio.run(leave_while_waiting())
    assert plane.cancelled == 1
    assert all(message.get("status", 499) == 499 for message in sent)


@pytest.mark.parametrize(
    ("marks", "failure", "raised", "codes"),
    [
        ({REFUSED: {}}, asyncio.CancelledError(), asyncio.CancelledError, {}),
        ({LEFT: {}}, asyncio.CancelledError(), asyncio.CancelledError, {499: 1}),
        ({}, asyncio.CancelledError(), NotReady, {503: 1}),
        ({}, InvalidRequest("no"), InvalidRequest, {400: 1}),
    ],
)
def test_a_request_without_an_answer_is_counted_once(
    plane: PlainDataPlane,
    marks: dict[str, Any],
    failure: BaseException,
    raised: type[BaseException],
    codes: dict[int, int],
) -> None:
    async def fails(*_: object) -> Any:
        raise failure

    found = plane.resolve("scaled").stats.codes
    found.clear()
    scope = {"type": "http", "path_params": {"model": "scaled"}, "extensions": marks}
    with pytest.raises(raised):
        asyncio.run(cast(Any, counted(cast(DataPlane, plane), fails)(Request(scope))))
    assert found == codes
