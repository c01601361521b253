"""The real tritonclient, sync and asyncio, against a real `fastserve serve` process."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from fastserve.registry import Registry
from tests import models
from tests.registries import publish
from tests.servers import Server, running

http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
aio = pytest.importorskip("tritonclient.http.aio", reason="tritonclient[http] is not installed")
utils = pytest.importorskip("tritonclient.utils", reason="tritonclient[http] is not installed")

X = np.random.default_rng(0).random((5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("triton")
    registry = Registry(root / "registry")
    publish(registry, "scaled", models.scaled())
    publish(registry, "scaled", models.scaled(3.0))
    publish(registry, "text", models.identity(TensorProto.STRING, "batch", 2))
    publish(registry, "half", models.identity(TensorProto.FLOAT16, "batch", 2))
    publish(registry, "pipeline", models.pipeline(True))
    publish(registry, "fixed", models.fixed_batch())
    with running(registry.path, root, {"batching": {"max_batch_rows": 64}}) as up:
        yield up


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with http.InferenceServerClient(server.url) as client:
        yield client


def tensor(name: str, data: np.ndarray[Any, Any], binary: bool = True, module: Any = http) -> Any:
    made = module.InferInput(name, list(data.shape), utils.np_to_triton_dtype(data.dtype))
    made.set_data_from_numpy(data, binary_data=binary)
    return made


def test_health(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scaled")
    assert client.is_model_ready("scaled", "1")
    assert not client.is_model_ready("nobody")


def test_metadata(client: Any) -> None:
    server = client.get_server_metadata()
    assert server["name"] == "fastserve"
    assert {"binary_tensor_data", "statistics", "model_configuration"} <= set(server["extensions"])
    model = client.get_model_metadata("scaled")
    assert model["versions"] == ["1", "2"]
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert model["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


def test_config(client: Any) -> None:
    config = client.get_model_config("scaled")
    assert config["max_batch_size"] == 64
    assert config["input"][0]["name"] == "x"
    assert [int(dim) for dim in config["input"][0]["dims"]] == [3]
    assert "dynamic_batching" in config
    fixed = client.get_model_config("fixed")
    assert fixed["max_batch_size"] == 0


def test_stats_count_rows_and_requests(client: Any) -> None:
    before = client.get_inference_statistics("scaled", "1")["model_stats"][0]
    for _ in range(3):
        client.infer("scaled", [tensor("x", X)], model_version="1")
    after = client.get_inference_statistics("scaled", "1")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 15
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 3
    assert after["version"] == "1"
    assert after["last_inference"] > 0
    assert len(client.get_inference_statistics()["model_stats"]) == 6


def test_index(client: Any) -> None:
    index = client.get_model_repository_index()
    assert {(entry["name"], entry["version"], entry["state"]) for entry in index} >= {
        ("scaled", "1", "READY"),
        ("scaled", "2", "READY"),
        ("text", "1", "READY"),
    }


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer(client: Any, binary_in: bool, binary_out: bool, compression: str | None) -> None:
    result = client.infer(
        "scaled",
        [tensor("x", X, binary_in)],
        model_version="1",
        outputs=[http.InferRequestedOutput("y", binary_data=binary_out)],
        request_id="r-1",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), X * 2)
    assert result.get_response()["id"] == "r-1"
    assert result.get_response()["model_version"] == "1"


def test_the_highest_version_answers_by_default(client: Any) -> None:
    result = client.infer("scaled", [tensor("x", X)])
    np.testing.assert_array_equal(result.as_numpy("y"), X * 3)


@pytest.mark.parametrize("binary", [True, False])
def test_strings(client: Any, binary: bool) -> None:
    words = np.array([["a", "日本"], ["", 'q"\\']], dtype=object)
    result = client.infer("text", [tensor("x", words, binary)])
    decoded = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in result.as_numpy("y")]
    assert decoded == words.tolist()


def test_half_precision(client: Any) -> None:
    half = np.array([[0.1, -2.5], [65504, 0]], np.float16)
    np.testing.assert_array_equal(client.infer("half", [tensor("x", half)]).as_numpy("y"), half)


def test_several_named_inputs(client: Any) -> None:
    columns = models.pipeline_rows(6)
    kinds = {"carrier": object, "origin": object, "distance": np.float32, "hour": np.int64}
    inputs = [
        tensor(name, np.array(columns[name], dtype=kind).reshape(-1, 1)) for name, kind in kinds.items()
    ]
    answers = [client.infer("pipeline", order) for order in (inputs, inputs[::-1])]
    for answer in answers:
        assert answer.as_numpy("probabilities").shape == (6, 2)
        assert {bytes(v) for v in answer.as_numpy("label")} <= {b"late", b"on time"}
    np.testing.assert_array_equal(answers[0].as_numpy("probabilities"), answers[1].as_numpy("probabilities"))


def test_a_model_without_batch_dimension(client: Any) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(client.infer("fixed", [tensor("x", x)]).as_numpy("y"), x * 2)


ERRORS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("unknown model", lambda c: c.infer("nobody", [tensor("x", X)]), "nobody"),
    ("unknown version", lambda c: c.infer("scaled", [tensor("x", X)], model_version="7"), "7"),
    ("wrong width", lambda c: c.infer("scaled", [tensor("x", X[:, :2])]), "shape"),
    ("wrong type", lambda c: c.infer("scaled", [tensor("x", X.astype(np.float64))]), "datatype"),
    ("unknown input", lambda c: c.infer("scaled", [tensor("z", X)]), "z"),
    (
        "unknown output",
        lambda c: c.infer("scaled", [tensor("x", X)], outputs=[http.InferRequestedOutput("q")]),
        "q",
    ),
    ("metadata of nobody", lambda c: c.get_model_metadata("nobody"), "nobody"),
    ("load", lambda c: c.load_model("scaled"), "load"),
]


@pytest.mark.parametrize(("what", "call", "names"), ERRORS, ids=[case[0] for case in ERRORS])
def test_errors_are_inference_server_exceptions(
    client: Any, what: str, call: Callable[[Any], Any], names: str
) -> None:
    with pytest.raises(utils.InferenceServerException, match=names):
        call(client)
    assert client.is_model_ready("scaled")


def test_asyncio(server: Server) -> None:
    async def test() -> None:
        async with aio.InferenceServerClient(server.url) as client:
            assert await client.is_server_ready()
            metadata = await client.get_model_metadata("scaled")
            assert metadata["name"] == "scaled"

            async def one(i: int) -> None:
                x = X + i
                made = tensor("x", x, binary=bool(i % 2), module=aio)
                compress = [None, "gzip", "deflate"][i % 3]
                result = await client.infer(
                    "scaled", [made], model_version="1", request_compression_algorithm=compress
                )
                np.testing.assert_array_equal(result.as_numpy("y"), x * 2)

            await asyncio.gather(*[one(i) for i in range(100)])
            with pytest.raises(utils.InferenceServerException, match="nobody"):
                await client.infer("nobody", [tensor("x", X, module=aio)])

    asyncio.run(test())
