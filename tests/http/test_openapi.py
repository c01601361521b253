"""The OpenAPI description is consistent, every example in it works, and the page needs no network."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from fastserve.dataplane import DataPlane, IndexEntry
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.options import HttpOptions
from tests import models
from tests.http.asgi import Client
from tests.http.plain_dataplane import PlainDataPlane


@pytest.fixture
def api(client: Client) -> dict[str, Any]:
    """The description."""
    document = client.get("/openapi.json").json()
    assert isinstance(document, dict)
    return document


def operations(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def matches(value: Any, schema: dict[str, Any], api: dict[str, Any]) -> bool:
    """Validate against the few keywords of JSON Schema that the description uses."""
    if "$ref" in schema:
        return matches(value, api["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], api)
    for word, quantifier in (("anyOf", any), ("oneOf", lambda found: sum(found) == 1)):
        if word in schema and not quantifier([matches(value, one, api) for one in schema[word]]):
            return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema and not any(_is_type(value, name) for name in _names(schema["type"])):
        return False
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if not schema.get("additionalProperties", True) and value.keys() - known:
            return False
        return set(schema.get("required", ())) <= value.keys() and all(
            matches(child, known.get(key, {}), api) for key, child in value.items()
        )
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        first = schema.get("prefixItems", [])
        rest = [schema.get("items", {})] * max(0, len(value) - len(first))
        return fits and all(matches(v, s, api) for v, s in zip(value, [*first, *rest], strict=False))
    return True


def _names(kind: str | list[str]) -> list[str]:
    return [kind] if isinstance(kind, str) else kind


def _is_type(value: object, name: str) -> bool:
    types: dict[str, tuple[type, ...]] = {
        "object": (dict,),
        "array": (list,),
        "string": (str,),
        "boolean": (bool,),
        "null": (type(None),),
        "integer": (int,),
        "number": (int, float),
    }
    return isinstance(value, types[name]) and (name == "boolean" or not isinstance(value, bool))


def lists(value: object) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, dict):
        for key, child in value.items():
            if isinstance(child, list):
                yield key, child
            yield from lists(child)
    elif isinstance(value, list):
        for child in value:
            yield from lists(child)


def test_no_list_of_schemas_is_empty() -> None:
    plane = PlainDataPlane()
    plane.add("scalar", models.identity())
    api = Client(create_app(cast(DataPlane, plane), HttpOptions())).get("/openapi.json").json()
    assert "scalar" in str(api)
    assert all(found for key, found in lists(api) if key in ("prefixItems", "oneOf", "anyOf", "allOf"))


def test_what_has_no_elements_is_not_written_out_for_them() -> None:
    plane = PlainDataPlane()
    plane.add("small", models.identity(1, "N", 0, 3))
    plane.add("huge", models.identity(1, "N", 0, 2**40))
    answer = Client(create_app(cast(DataPlane, plane), HttpOptions())).get("/openapi.json")
    assert answer.status == 200
    assert operation_example(answer.json(), "/v1/models/small:predict") == {"instances": [{"x": []}]}
    media = answer.json()["paths"]["/v1/models/huge:predict"]["post"]["requestBody"]["content"]
    assert "example" not in media["application/json"]


def test_it_is_consistent(api: dict[str, Any]) -> None:
    assert api["openapi"] == "3.1.0"
    ids = [operation["operationId"] for _, _, operation in operations(api)]
    assert len(ids) == len(set(ids))
    for reference in references(api):
        name = reference.removeprefix("#/components/schemas/")
        assert name in api["components"]["schemas"]
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    for _, path, operation in operations(api):
        assert path.startswith("/")
        assert operation["responses"]
        assert all(response["description"] for response in operation["responses"].values())


def schemas(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from schemas(child)


def test_generators_of_clients_can_read_it(api: dict[str, Any]) -> None:
    """openapi-python-client leaves out lists of nothing said, and takes a constant size for all sizes."""
    found = [schema for schema in schemas(api) if schema.get("type") == "array"]
    assert len(found) > 10
    for schema in found:
        assert isinstance(schema.get("items"), dict)
        assert all("const" not in size for size in schema.get("prefixItems", []))
    assert not any(isinstance(one.get("type"), list) and "array" in one["type"] for one in schemas(api))


def test_every_example_works_and_fits_its_schema(
    client: Client, api: dict[str, Any], plane: PlainDataPlane
) -> None:
    tried = set()
    for _, path, operation in operations(api):
        if "x-model" not in operation:
            continue
        tried.add(path)
        media = operation["requestBody"]["content"]["application/json"]
        assert matches(media["example"], media["schema"], api), path
        answer = client.post(path, media["example"])
        assert answer.status == 200, (path, answer.body)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert matches(answer.json(), schema, api), path
        in_binary = client.post(path, media["example"] | {"parameters": {"binary_data_output": True}})
        assert in_binary.header("content-type") in operation["responses"]["200"]["content"]
    assert tried == {
        path
        for model in plane.models()
        for path in (f"/v2/models/{model}/infer", f"/v1/models/{model}:predict")
    }


def test_the_schemas_refuse_what_the_server_refuses(api: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/scaled.InferRequest"}
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    assert matches({"inputs": [tensor]}, schema, api)
    assert matches({"inputs": [tensor], "parameters": {"timeout": 0}}, schema, api)
    assert not matches({"inputs": [tensor], "parameters": {"timeout": -1}}, schema, api)
    for change in ({"name": "z"}, {"datatype": "FP64"}, {"shape": [1, 4]}, {"shape": [3]}, {"data": 1}):
        assert not matches({"inputs": [{**tensor, **change}]}, schema, api)
    assert not matches({"inputs": [{**tensor, "shape": [0, 3], "data": []}]}, schema, api)


def test_only_a_row_of_one_element_may_stand_bare(client: Client, api: dict[str, Any]) -> None:
    def fits(model: str, value: object) -> bool:
        path = f"/v1/models/{model}:predict"
        schema = api["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        body = {"instances": [value]}
        found = matches(body, schema, api)
        assert found == (client.post(path, body).status == 200), value
        return found

    wide = [{"x": value} for value in (1.0, [1.0, 2.0, 3.0], [1.0, 2.0])]
    assert [fits("scaled", row) for row in wide] == [False, True, False]
    assert [fits("scaled", row) for row in ([1.0, 2.0, 3.0], [1.0], 1.0)] == [True, False, False]
    assert not fits("scaled", {"x": [1.0, 2.0, 3.0], "z": 1})
    row = operation_example(api, "/v1/models/pipeline:predict")["instances"][0]
    assert not fits("pipeline", list(row.values()))
    name = next(iter(row))
    assert [fits("pipeline", row | {name: value}) for value in (row[name], [row[name]])] == [True, True]


def operation_example(api: dict[str, Any], path: str) -> dict[str, Any]:
    example = api["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert isinstance(example, dict)
    return example


def test_a_model_that_mixes_rows_is_asked_by_columns() -> None:
    plane = PlainDataPlane()
    plane.add("mixes", models.scaled()).max_batch_rows = 0
    api = Client(create_app(cast(DataPlane, plane), HttpOptions())).get("/openapi.json").json()
    assert operation_example(api, "/v1/models/mixes:predict") == {"inputs": {"x": [[0.5, 0.5, 0.5]]}}


def test_the_addresses_of_the_server_exist(client: Client, api: dict[str, Any]) -> None:
    bodyless = {
        (method, path) for method, path, operation in operations(api) if "requestBody" not in operation
    }
    assert {("get", "/v2/models/stats"), ("post", "/v2/repository/index")} < bodyless
    for method, path in bodyless:
        assert client.call(method.upper(), path).status == 200


def test_models_that_do_not_serve_are_left_out(client: Client, plane: PlainDataPlane) -> None:
    plane.broken.append(IndexEntry("late", "1", "UNAVAILABLE", "the checksum is wrong"))
    assert "/v2/models/late/infer" not in client.get("/openapi.json").json()["paths"]


def test_the_page_works_offline(client: Client) -> None:
    page = client.get("/docs")
    assert page.status == 200
    assert page.header("content-type") == "text/html; charset=utf-8"
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert {"/docs/docs.js", "/docs/docs.css", "/openapi.json"} <= set(parts)
    for part in parts:
        answer = client.get(part)
        assert answer.status == 200
        assert b"http://" not in answer.body
        assert b"https://" not in answer.body
    assert "default-src 'self'" in (page.header("content-security-policy") or "")
    assert b"innerHTML" not in client.get("/docs/docs.js").body


def test_the_other_address_of_the_page(client: Client) -> None:
    answer = client.get("/v2/docs")
    assert (answer.status, answer.header("location")) == (307, "/docs")


def test_docs_can_be_switched_off(plane: PlainDataPlane) -> None:
    client = Client(create_app(cast(DataPlane, plane), HttpOptions(docs=False)))
    for path in ("/docs", "/docs/docs.js", "/openapi.json", "/v2/docs"):
        assert client.get(path).status == 404


def test_it_is_compressed_on_request(client: Client) -> None:
    answer = client.get("/openapi.json", {"accept-encoding": "gzip"})
    assert answer.header("content-encoding") == "gzip"
    assert len(answer.body) < len(json.dumps(client.get("/openapi.json").json()))
