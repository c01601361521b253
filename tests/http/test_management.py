"""Health, metadata, config, statistics and index in the shapes that tritonclient and perf_analyzer read."""

import pytest

from fastserve.dataplane import IndexEntry
from fastserve.types import Duration
from tests.http.asgi import Client
from tests.http.plain_dataplane import PlainDataPlane


def test_health(client: Client, plane: PlainDataPlane) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/healthz"):
        assert client.get(path).status == 200
    plane.broken.append(IndexEntry("late", "1", "UNAVAILABLE", "the checksum is wrong"))
    assert client.get("/v2/health/live").json() == {"live": True}
    assert (client.get("/v2/health/ready").status, client.get("/v2/health/ready").json()) == (
        503,
        {"ready": False},
    )
    assert client.get("/healthz").json() == {"live": True, "ready": False}


def test_the_root_says_that_it_lives(client: Client) -> None:
    """As KServe's v1 clients ask for it."""
    assert client.get("/").json() == {"status": "alive", "docs": "/docs"}


def test_server_metadata(client: Client) -> None:
    document = client.get("/v2").json()
    assert document["name"] == "fastserve"
    assert {"binary_tensor_data", "model_configuration", "statistics"} <= set(document["extensions"])


def test_the_list_of_models(client: Client, plane: PlainDataPlane) -> None:
    models = {entry["name"]: entry["versions"] for entry in client.get("/v2/models").json()["models"]}
    assert models["scaled"] == ["1", "2"]
    assert list(models) == plane.models()


def test_model_metadata(client: Client) -> None:
    assert client.get("/v2/models/scaled").json() == {
        "name": "scaled",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert client.get("/v2/models/fixed").json()["inputs"][0]["shape"] == [4, 3]


def test_model_ready(client: Client, plane: PlainDataPlane) -> None:
    plane.broken.append(IndexEntry("late", "3", "UNAVAILABLE", "the checksum is wrong"))
    for path in ("/v2/models/scaled/ready", "/v2/models/scaled/versions/1/ready"):
        assert client.get(path).json() == {"name": "scaled", "ready": True}
    for path in ("/v2/models/late/ready", "/v2/models/late/versions/3/ready"):
        answer = client.get(path)
        assert (answer.status, "the checksum is wrong" in answer.error) == (503, True)
    assert client.get("/v2/models/nothing/ready").status == 404


def test_config_of_a_batched_model(client: Client) -> None:
    config = client.get("/v2/models/scaled/versions/1/config").json()
    assert config["name"] == "scaled"
    assert config["max_batch_size"] == 64
    assert config["input"][0]["dims"] == [3]
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["optional"] is False
    assert config["output"][0]["dims"] == [3]
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert config["response_cache"] == {"enable": False}
    assert "max_queue_delay_microseconds" in config["dynamic_batching"]


def test_config_of_other_models(client: Client) -> None:
    fixed = client.get("/v2/models/fixed/config").json()
    assert (fixed["max_batch_size"], fixed["input"][0]["dims"]) == (0, [4, 3])
    assert "dynamic_batching" not in fixed
    bare = client.get("/v2/models/bare-BYTES/config").json()["input"][0]
    assert (bare["data_type"], bare["dims"], bare["reshape"]) == ("TYPE_STRING", [1], {"shape": []})


DURATIONS = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)


def test_statistics(client: Client, plane: PlainDataPlane) -> None:
    served = plane.resolve("scaled", "1")
    served.stats.batches.clear()
    before = served.stats.inference_count
    body = {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [0] * 6}]}
    client.post("/v2/models/scaled/versions/1/infer", body)
    (entry,) = client.get("/v2/models/scaled/versions/1/stats").json()["model_stats"]
    assert (entry["name"], entry["version"]) == ("scaled", "1")
    assert entry["inference_count"] == before + 2
    assert type(entry["execution_count"]) is int
    assert entry["batch_stats"] == []
    for name in DURATIONS:
        assert set(entry["inference_stats"][name]) == {"count", "ns"}


def test_the_three_compute_stages_count_the_same(client: Client, plane: PlainDataPlane) -> None:
    """Otherwise perf_analyzer stops with "Server side statistics compute counts must be the same"."""
    plane.resolve("mlp").stats.compute_infer.add(500, 7)
    (entry,) = client.get("/v2/models/mlp/stats").json()["model_stats"]
    stages = ("compute_input", "compute_infer", "compute_output")
    assert [entry["inference_stats"][stage]["count"] for stage in stages] == [7, 7, 7]


def test_runs_are_told_apart_by_their_rows(client: Client, plane: PlainDataPlane) -> None:
    batches = plane.resolve("mlp").stats.batches
    batches.update({4: Duration(1, 900), 2: Duration(3, 600)})
    (entry,) = client.get("/v2/models/mlp/stats").json()["model_stats"]
    batches.clear()
    infer = [(batch["batch_size"], batch["compute_infer"]) for batch in entry["batch_stats"]]
    assert infer == [(2, {"count": 3, "ns": 600}), (4, {"count": 1, "ns": 900})]
    for stage in ("compute_input", "compute_output"):
        assert [batch[stage] for batch in entry["batch_stats"]] == [{"count": n, "ns": 0} for n in (3, 1)]


def test_statistics_of_one_model_and_of_all(client: Client) -> None:
    one = client.get("/v2/models/scaled/stats").json()["model_stats"]
    assert [(entry["name"], entry["version"]) for entry in one] == [("scaled", "1"), ("scaled", "2")]
    names = {entry["name"] for entry in client.get("/v2/models/stats").json()["model_stats"]}
    assert {"scaled", "mlp", "pipeline"} <= names


def test_the_index(client: Client, plane: PlainDataPlane) -> None:
    plane.broken.append(IndexEntry("late", "1", "UNAVAILABLE", "the checksum is wrong"))
    late = {"name": "late", "version": "1", "state": "UNAVAILABLE", "reason": "the checksum is wrong"}
    for path in ("/v2/repository/index", "/v2/repository/main/index"):
        for body in (b"", b"{}", b'{"ready":false}'):
            assert late in client.post(path, body).json()
        ready = client.post(path, b'{"ready":true}').json()
        assert {"name": "scaled", "version": "2", "state": "READY", "reason": ""} in ready
        assert late not in ready
    for body in (b"[]", b'{"ready":1}', b"{", b"[" * 30_000):
        assert client.post("/v2/repository/index", body).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/models/scaled/load",
        "/v2/repository/models/scaled/unload",
        "/v2/repository/main/models/scaled/load",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/r/register",
        "/v2/cudasharedmemory/status",
        "/v2/trace/setting",
        "/v2/models/scaled/trace/setting",
        "/v2/logging",
    ],
)
def test_what_is_left_out_on_purpose_says_so(client: Client, path: str) -> None:
    answer = client.post(path, b"{}")
    assert answer.status == 501
    assert " " in answer.error


@pytest.mark.parametrize(
    "path", ["/v2/", "/v3", "/v2/models/scaled/nothing", "/v2/models//infer", "/v2/infer"]
)
def test_unknown_addresses_are_404(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.error) == (404, "Not Found")


def test_unknown_models_are_404_everywhere(client: Client) -> None:
    for suffix in (
        "",
        "/ready",
        "/config",
        "/stats",
        "/versions/1",
        "/versions/1/config",
        "/versions/1/stats",
    ):
        assert client.get("/v2/models/nothing" + suffix).status == 404
        assert client.get("/v2/models/scaled/versions/9" + suffix.replace("/versions/1", "")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v2/models/scaled/infer", "POST"),
        ("POST", "/v2/models/scaled", "GET, HEAD"),
        ("DELETE", "/v2", "GET, HEAD"),
        ("OPTIONS", "/v2/models/scaled/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v1/models/scaled:predict", "POST"),
    ],
)
def test_wrong_methods_are_405_with_allow(client: Client, method: str, path: str, allow: str) -> None:
    answer = client.call(method, path)
    assert (answer.status, answer.header("allow")) == (405, allow)
    assert answer.error


def test_head_has_the_headers_of_get(client: Client) -> None:
    for path in ("/v2", "/v2/models/scaled", "/v2/health/ready"):
        assert client.call("HEAD", path).headers == client.get(path).headers


def test_queries_are_ignored(client: Client) -> None:
    assert client.get("/v2/models/scaled?a=b&c").body == client.get("/v2/models/scaled").body
