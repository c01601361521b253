"""TensorFlow Serving's form: what the compiled reader takes, and that both ways answer alike, byte for byte."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths.requests import KINDS, PIPELINE, bad_values, element, serialise
from tests.paths.test_differential import QUIET, Pair
from tests.paths.workers import Running, body, post, status


@pytest.fixture(scope="module")
def pair(both: SimpleNamespace) -> Iterator[Pair]:
    pair = Pair(both)
    yield pair
    pair.close()


@st.composite
def rows_of(draw: st.DrawFn, datatype: str, inner: tuple[int, ...], rows: int) -> list[Any]:
    """A value for each row, bare where one element may be."""
    count = int(np.prod(inner))
    values = np.empty(rows * count, object)
    values[:] = draw(st.lists(element(datatype), min_size=rows * count, max_size=rows * count))
    nested: list[Any] = values.reshape(rows, *inner).tolist()
    return values.tolist() if count == 1 and draw(st.booleans()) else nested


@st.composite
def good(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A request of rows or columns that should be answered with 200."""
    model = draw(st.sampled_from([*KINDS, "bare", "pipeline", "labels", "pair"]))
    rows = draw(st.integers(1, 5))
    columns = {"x": draw(rows_of(*KINDS[model][1:], rows))} if model in KINDS else {}
    if model == "bare":
        columns["x"] = draw(st.lists(st.integers(-100, 100), min_size=rows, max_size=rows))
    elif model == "pair":
        columns = {name: draw(rows_of("FP32", (2,), rows)) for name in ("a", "b")}
    elif not columns:
        columns = {name: draw(rows_of(datatype, (1,), rows)) for name, datatype in PIPELINE}
    document: dict[str, Any] = {}
    order = draw(st.permutations(list(columns)))
    if draw(st.booleans()):
        document["inputs"] = {name: columns[name] for name in order}
    else:
        document["instances"] = [{name: columns[name][row] for name in order} for row in range(rows)]
    if len(columns) == 1 and draw(st.booleans()):
        document[next(iter(document))] = columns["x"]
    if draw(st.integers(0, 3)) == 0:
        document["signature_name"] = draw(st.sampled_from(["serving_default", 1, True, None, "é", ["x"], {}]))
    return model, {key: document[key] for key in draw(st.permutations(list(document)))}


@st.composite
def any_request(draw: st.DrawFn) -> bytes:
    """A request as bytes: mostly good, else broken in a place."""
    model, document = draw(good())
    damage = draw(st.integers(0, 5))
    where: Any = document.get("instances", document.get("inputs"))
    while damage == 1 and isinstance(where, dict | list) and where:
        at = draw(st.sampled_from([*where, "other"] if isinstance(where, dict) else range(len(where))))
        if not isinstance(where, dict) or at in where:
            inner = where[at]
            if isinstance(inner, dict | list) and draw(st.booleans()):
                where = inner
                continue
        where[at] = draw(bad_values)
        break
    if damage == 2:
        document[draw(st.sampled_from(["inputs", "instances", "other"]))] = draw(bad_values)
    text = serialise(draw, document)
    if damage == 3:
        at = draw(st.integers(0, len(text)))
        junk = draw(st.sampled_from([b"", b",", b"]", b"}", b'"', b"\x00", b"NaN", b"1", b"-", b"[", b" "]))
        text = text[:at] + junk + text[at + draw(st.integers(0, 3)) :]
    headers = ["Inference-Header-Content-Length: 5"] if draw(st.integers(0, 15)) == 0 else []
    version = draw(st.sampled_from(["", "", "/versions/1", "/labels/1", "/versions/2", "/labels/none"]))
    return post(f"/v1/models/{model}{version}:predict", text, *headers)


@settings(max_examples=800, deadline=None, suppress_health_check=QUIET)
@given(request=any_request())
def test_any_request_is_answered_the_same(pair: Pair, request: bytes) -> None:
    fast, ordinary = pair.ask(request)
    assert fast == ordinary
    assert status(fast) in (200, 400, 404)


def test_good_requests_are_served_and_nearly_all_of_them_fast(pair: Pair) -> None:
    served = 0

    @settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
    @given(parts=good())
    def ask(parts: tuple[str, dict[str, Any]]) -> None:
        nonlocal served
        model, document = parts
        fast, ordinary = pair.ask(post(f"/v1/models/{model}:predict", json.dumps(document).encode()))
        assert fast == ordinary
        assert status(fast) == 200, fast
        served += 1

    before = pair.both.fast.fast_requests
    ask()
    assert pair.both.fast.fast_requests - before > 0.6 * served, "not those of 'ragged' and odd other keys"


CASES = {
    "a column twice, the last one counts": ('{"instances":[{"x":[1,2,3],"x":[4,5,6]}]}', 200, False),
    "the rows twice, the last ones count": ('{"instances":[[1,2,3]],"instances":[[4,5,6]]}', 200, False),
    "rows of two kinds": ('{"instances":[[1,2,3],{"x":[1,2,3]}]}', 400, False),
    "no rows": ('{"instances":[]}', 400, False),
    "a comma too many": ('{"instances":[[1,2,3],]}', 400, False),
    "one value too many": ('{"instances":[[1,2,3,4]]}', 400, False),
    "values without lists": ('{"instances":[1,2,3]}', 400, False),
    "columns": ('{"inputs":[[1,2,3],[4,5,6]]}', 200, True),
    "columns by name": ('{"inputs":{"x":[[1,2,3],[4,5,6]]}}', 200, True),
    "a column twice, the last one counts here too": ('{"inputs":{"x":[[1,2,3]],"x":[[4,5,6]]}}', 200, False),
    "no columns": ('{"inputs":{}}', 400, False),
    "columns without rows": ('{"inputs":{"x":[]}}', 400, False),
    "rows and columns": ('{"inputs":[[1,2,3]],"instances":[[1,2,3]]}', 400, False),
    "an escaped name": ('{"instances":[{"\\u0078":[1,2,3]}]}', 200, False),
    "white space": ('\n{ "instances" :\t[ [ 1 , 2 , null ] , [ 4e0,5.0,6 ]\r\n] }\n', 200, True),
    "other keys": ('{"signature_name":"a","n":1,"flag":false,"instances":[[1,2,3]]}', 200, True),
    "many rows": (json.dumps({"instances": [[1.5, i, 0.1234567890123] for i in range(500)]}), 200, True),
    "too many lists to look at": ('{"instances":[[1,2,3]' + ",[1,2,3]" * 70_000 + "]}", 200, False),
}


@pytest.mark.parametrize("case", CASES)
def test_chosen_requests(both: SimpleNamespace, case: str) -> None:
    text, expected, is_fast = CASES[case]
    answers = []
    before = both.fast.fast_requests
    for running in (both.fast, both.ordinary):
        with running.connect() as connection:
            answers.append(connection.ask(post("/v1/models/scaled:predict", text.encode())))
    assert answers[0] == answers[1]
    assert status(answers[0]) == expected
    assert both.fast.fast_requests - before == is_fast


def test_both_forms_and_other_requests_on_one_connection(way: Running) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    infer = post("/v2/models/scaled/infer", json.dumps({"inputs": [tensor], "id": "7"}).encode())
    predict = post("/v1/models/scaled/labels/1:predict", b'{"instances":[[1,2,3]]}')
    columns = post("/v1/models/scaled:predict", b'{"inputs":[[1,2,3]]}')
    with way.connect() as connection:
        connection.raw.sendall(b"".join([infer, predict, columns, infer, predict] * 20))
        for _ in range(20):
            seen = [json.loads(body(connection.response())) for _ in range(5)]
            assert [list(one) for one in seen] == [
                ["model_name", "model_version", "id", "outputs"],
                ["predictions"],
                ["outputs"],
                ["model_name", "model_version", "id", "outputs"],
                ["predictions"],
            ]
            assert seen[1] == {"predictions": [[2.0, 4.0, 6.0]]}


def test_compressed_and_with_a_deadline(way: Running) -> None:
    sent = json.dumps({"instances": [[i / 7, i, 0] for i in range(300)]}).encode()
    with way.connect() as connection:
        answer = connection.ask(post("/v1/models/scaled:predict", sent, "Accept-Encoding: gzip"))
        assert b"\r\ncontent-encoding: gzip\r\n" in answer
        timely = post("/v1/models/scaled:predict", sent, "X-Request-Timeout-Ms: 20000")
        assert len(json.loads(body(connection.ask(timely)))["predictions"]) == 300
