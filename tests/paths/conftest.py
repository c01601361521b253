"""One registry with a model of every kind, and a worker for each of the two ways."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from onnx import TensorProto

from fastserve.registry import Registry
from tests import models
from tests.paths.workers import Running, worker
from tests.registries import publish

MODELS: dict[str, Callable[[], bytes]] = {
    "scaled": models.scaled,
    "mlp": lambda: models.mlp(32, 16, 2),
    "int64": lambda: models.identity(TensorProto.INT64, "batch", 2),
    "int8": lambda: models.identity(TensorProto.INT8, "batch", 2),
    "uint8": lambda: models.identity(TensorProto.UINT8, "batch", 2),
    "uint64": lambda: models.identity(TensorProto.UINT64, "batch", 2),
    "bool": lambda: models.identity(TensorProto.BOOL, "batch", 2),
    "double": lambda: models.identity(TensorProto.DOUBLE, "batch", 2, 2),
    "text": lambda: models.identity(TensorProto.STRING, "batch", 2),
    "pipeline": models.pipeline,
    "labels": lambda: models.pipeline(True),
    "picky": models.failing_on_negative,
    "ragged": models.variable_inner,
    "pair": models.pair,
    "fixed": models.fixed_batch,
    "unique": models.unique_rows,
    "one": lambda: models.identity(TensorProto.INT32),
    "bare": lambda: models.identity(TensorProto.INT64, "batch"),
}


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("zoo") / "registry")
    for name, make in MODELS.items():
        publish(registry, name, make())
    return registry.path


@pytest.fixture(scope="session")
def both(zoo: Path) -> Iterator[SimpleNamespace]:
    """`fast` and `ordinary`: the same server with and without the fast path."""
    http = {"max_body_bytes": 1 << 20, "read_timeout_s": 2.0}
    with (
        worker(zoo, http={**http, "fast_path": True}) as fast,
        worker(zoo, http={**http, "fast_path": False}) as ordinary,
    ):
        yield SimpleNamespace(fast=fast, ordinary=ordinary)


@pytest.fixture(params=["fast", "ordinary"])
def way(request: pytest.FixtureRequest, both: SimpleNamespace) -> Running:
    """Each of the two, in turn."""
    running: Running = getattr(both, request.param)
    return running
