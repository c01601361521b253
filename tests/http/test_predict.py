"""TensorFlow Serving's predict: rows or columns in, rows or columns out."""

import json
import math
from typing import Any, cast

import numpy as np
import pytest

from fastserve.dataplane import DataPlane, IndexEntry
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.options import HttpOptions
from fastserve_core.wire.encode import ResponseEncoder
from tests import models
from tests.http.asgi import Client
from tests.http.plain_dataplane import PlainDataPlane
from tests.models import pipeline_rows

FP32 = ResponseEncoder("m", "1", [("y", "FP32")])
PIPELINE = "/v1/models/pipeline:predict"
SCALED = "/v1/models/scaled/versions/1:predict"
COLUMNS = pipeline_rows(5)
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


def test_rows_by_column_name(client: Client) -> None:
    predictions = client.post(PIPELINE, {"signature_name": "serving_default", "instances": ROWS}).json()[
        "predictions"
    ]
    assert len(predictions) == 5
    for row, prediction in zip(ROWS, predictions, strict=True):
        assert list(prediction) == ["label", "probabilities"]
        assert prediction["label"] == ("late" if row["distance"] > 900 else "on time")
        assert math.isclose(sum(prediction["probabilities"]), 1, abs_tol=1e-5)


def test_columns(client: Client) -> None:
    rows = client.post(PIPELINE, {"instances": ROWS}).json()["predictions"]
    columns = client.post(PIPELINE, {"inputs": COLUMNS}).json()["outputs"]
    assert columns == {name: [row[name] for row in rows] for name in ("label", "probabilities")}


def test_values_may_be_lists_of_one(client: Client) -> None:
    rows = [{name: [value] for name, value in row.items()} for row in ROWS]
    columns = {name: [[value] for value in values] for name, values in COLUMNS.items()}
    assert client.post(PIPELINE, {"instances": rows}).body == client.post(PIPELINE, {"instances": ROWS}).body
    assert client.post(PIPELINE, {"inputs": columns}).body == client.post(PIPELINE, {"inputs": COLUMNS}).body


@pytest.mark.parametrize(
    "body", [{"instances": [[1, 2, 3], [4, 5, 6]]}, {"instances": [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]}]
)
def test_a_single_input_may_stand_without_its_name(client: Client, body: Any) -> None:
    assert client.post(SCALED, body).body == b'{"predictions":[[2.0,4.0,6.0],[8.0,10.0,12.0]]}'


@pytest.mark.parametrize("body", [{"inputs": [[1, 2, 3]]}, {"inputs": {"x": [[1, 2, 3]]}}])
def test_single_columns(client: Client, body: Any) -> None:
    assert client.post(SCALED, body).body == b'{"outputs":[[2.0,4.0,6.0]]}'


def test_rows_of_bare_values(client: Client) -> None:
    assert (
        client.post("/v1/models/bare-INT64:predict", {"instances": [1, 2]}).body == b'{"predictions":[1,2]}'
    )
    assert client.post("/v1/models/bare-BYTES:predict", {"instances": ["a"]}).json() == {"predictions": ["a"]}
    assert client.post("/v1/models/bare-BOOL:predict", {"instances": [True]}).json() == {
        "predictions": [True]
    }
    assert client.post("/v1/models/bare-FP16:predict", {"instances": [0.5]}).json() == {"predictions": [0.5]}


def test_fp32_is_written_with_its_own_digits(client: Client) -> None:
    assert client.post("/v1/models/bare-FP32:predict", {"instances": [0.1]}).body == b'{"predictions":[0.1]}'


def test_a_scalar_is_written_with_its_own_digits() -> None:
    assert FP32.predict_body([np.array(0.1, np.float32)], True) == b'{"outputs":0.1}'


@pytest.mark.parametrize("shape", [(), (2,)])
def test_the_float32_whose_digits_mislead_a_double_is_written_with_more(shape: tuple[int, ...]) -> None:
    value = np.resize(np.array([0x95AE43FD, 0x7FC00000], np.uint32).view(np.float32), shape)
    assert np.float32(float("-7.038531e-26")) != value.flat[0]
    read = json.loads(FP32.predict_body([value], True))["outputs"]
    assert np.float32(read if shape == () else read[0]) == value.flat[0]


def test_a_scalar_is_no_list() -> None:
    plane = PlainDataPlane()
    plane.add("scalar", models.identity())
    scalar = Client(create_app(cast(DataPlane, plane), HttpOptions()))
    for inputs in (2.5, {"x": 2.5}):
        assert scalar.post("/v1/models/scalar:predict", {"inputs": inputs}).json() == {"outputs": 2.5}


def test_a_model_that_does_not_keep_rows_takes_columns(client: Client) -> None:
    url, rows = "/v1/models/unique:predict", [[1, 2, 3], [1, 2, 3]]
    assert client.post(url, {"inputs": rows}).json() == {"outputs": [[1, 2, 3]]}
    answer = client.post(url, {"instances": rows})
    assert answer.status == 400
    assert answer.error == "output 'y' has 1 rows for 2 instances; send inputs (columns)"


def test_null_is_nan_both_ways(client: Client) -> None:
    answer = client.post(SCALED, {"instances": [[None, 1, 2]]})
    assert answer.json() == {"predictions": [[None, 2, 4]]}
    missing = [{**ROWS[0], "distance": None}]
    assert client.post(PIPELINE, {"instances": missing}).status == 200


def test_variable_dimensions_follow_the_data(client: Client) -> None:
    url = "/v1/models/variable:predict"
    assert client.post(url, {"instances": [[1, 2, 3], [4, 5, 6]]}).json() == {"predictions": [[6], [15]]}
    assert client.post(url, {"inputs": [[1], [2]]}).json() == {"outputs": [[1], [2]]}


def test_models_without_a_batch_dimension_take_columns(client: Client) -> None:
    url = "/v1/models/fixed:predict"
    table = [[1.0, 2.0, 3.0]] * 4
    assert client.post(url, {"inputs": table}).json() == {"outputs": [[2.0, 4.0, 6.0]] * 4}
    answer = client.post(url, {"instances": table})
    assert (answer.status, "inputs" in answer.error) == (400, True)


BAD: dict[str, tuple[Any, str]] = {
    "not an object": ([], "body"),
    "nothing": ({}, "instances"),
    "both": ({"instances": ROWS, "inputs": COLUMNS}, "inputs"),
    "instances an object": ({"instances": {"0": ROWS[0]}}, "instances must be a list"),
    "instances a number": ({"instances": 5}, "instances must be a list"),
    "instances empty": ({"instances": []}, "instances"),
    "row without names": ({"instances": [[1, 2]]}, "carrier"),
    "second row not an object": ({"instances": [ROWS[0], 3]}, "instances[1]"),
    "missing column": (
        {"instances": [ROWS[0], {k: v for k, v in ROWS[1].items() if k != "hour"}]},
        "instances[1]: column 'hour'",
    ),
    "the first of several missing columns": (
        {"instances": [{"carrier": "UA"}]},
        "instances[0]: column 'distance' is missing",
    ),
    "unknown column": (
        {"instances": [{**ROWS[0], "speed": 3}]},
        "instances[0]: the model has no column 'speed'",
    ),
    "string is null": ({"instances": [{**ROWS[0], "carrier": None}]}, "column 'carrier'"),
    "string is a number": ({"instances": [{**ROWS[0], "carrier": 3}]}, "column 'carrier'"),
    "number is a string": (
        {"instances": [ROWS[0], {**ROWS[0], "distance": "3"}]},
        "column 'distance': value 1",
    ),
    "integer is null": ({"instances": [{**ROWS[0], "hour": None}]}, "column 'hour'"),
    "integer has a fraction": ({"instances": [{**ROWS[0], "hour": 1.5}]}, "column 'hour'"),
    "value too wide": ({"instances": [{**ROWS[0], "hour": [1, 2]}]}, "column 'hour'"),
    "bare and listed": ({"instances": [ROWS[0], {**ROWS[0], "hour": [2]}]}, "column 'hour'"),
    "columns not named": ({"inputs": [[1]]}, "carrier"),
    "column missing": ({"inputs": {k: v for k, v in COLUMNS.items() if k != "origin"}}, "column 'origin'"),
    "column unknown": ({"inputs": {**COLUMNS, "speed": [1] * 5}}, "column 'speed'"),
    "columns of two lengths": ({"inputs": {**COLUMNS, "hour": [1]}}, "column 'hour'"),
    "column not a list": ({"inputs": {**COLUMNS, "carrier": "UA"}}, "column 'carrier'"),
    "column empty": ({"inputs": {name: [] for name in COLUMNS}}, "column 'carrier'"),
}


@pytest.mark.parametrize(("body", "names"), BAD.values(), ids=BAD)
def test_bad_predict_requests_are_400(client: Client, body: Any, names: str) -> None:
    answer = client.post(PIPELINE, body)
    assert answer.status == 400
    assert names in answer.error


def test_bad_json_names_the_column(client: Client) -> None:
    text = json.dumps({"instances": [{**ROWS[0], "distance": float("nan")}]}).encode()
    answer = client.post(PIPELINE, text)
    assert (answer.status, "instances[0].distance" in answer.error) == (400, True)


def test_unknown_models_are_404(client: Client) -> None:
    assert client.post("/v1/models/nothing:predict", {"instances": ROWS}).status == 404
    assert client.post("/v1/models/pipeline/versions/7:predict", {"instances": ROWS}).status == 404
    assert client.get("/v1/models/nothing").status == 404
    assert client.get("/v1/models/pipeline/versions/7").status == 404
    assert client.post("/v1/models/pipeline:classify", {"instances": ROWS}).status == 404


def test_the_deadline_comes_from_the_header(client: Client, plane: PlainDataPlane) -> None:
    client.post(PIPELINE, {"instances": ROWS}, {"X-Request-Timeout-Ms": "20"})
    assert plane.timeouts_us == [20_000]


def test_status_of_versions(client: Client, plane: PlainDataPlane) -> None:
    plane.broken.append(IndexEntry("scaled", "3", "UNAVAILABLE", "the checksum is wrong"))
    answer = client.get("/v1/models/scaled").json()
    assert (answer["name"], answer["ready"]) == ("scaled", True)
    assert client.get("/v1/models/scaled/versions/3").json()["ready"] is False
    statuses = answer["model_version_status"]
    assert [status["version"] for status in statuses] == ["3", "2", "1"]
    assert statuses[0]["state"] == "END"
    assert statuses[0]["status"] == {"error_code": "UNKNOWN", "error_message": "the checksum is wrong"}
    (one,) = client.get("/v1/models/scaled/versions/2").json()["model_version_status"]
    assert one == {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
