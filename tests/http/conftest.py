"""The ordinary application over a plain data plane, as tests call it."""

from collections.abc import Iterator
from typing import cast

import pytest
from onnx import TensorProto

from fastserve.dataplane import DataPlane
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.options import HttpOptions
from tests import models
from tests.http.asgi import Client
from tests.http.plain_dataplane import PlainDataPlane

ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}

OPTIONS = HttpOptions(max_body_bytes=64 * 1024)


@pytest.fixture(scope="session")
def loaded() -> PlainDataPlane:
    """Every kind of model, loaded once."""
    plane = PlainDataPlane()
    plane.add("mlp", models.mlp(4, 8, 2))
    plane.add("scaled", models.scaled(2.0, 3), "1")
    plane.add("scaled", models.scaled(3.0, 3), "2")
    plane.add("pipeline", models.pipeline(string_labels=True))
    plane.add("fixed", models.fixed_batch(4, 3))
    plane.add("variable", models.variable_inner())
    plane.add("image", models.convolution())
    plane.add("unique", models.unique_rows())
    plane.add("failing", models.failing_on_negative())
    for name, element in ELEMENTS.items():
        plane.add(f"row-{name}", models.identity(element, "batch", 2))
        plane.add(f"bare-{name}", models.identity(element, "batch"))
    return plane


@pytest.fixture
def plane(loaded: PlainDataPlane) -> Iterator[PlainDataPlane]:
    """The loaded models, with nothing failing."""
    yield loaded
    loaded.failure = loaded.crash = loaded.pause = None
    loaded.broken.clear()
    loaded.deadlines_ns.clear()
    loaded.timeouts_us.clear()
    loaded.cancelled = 0


@pytest.fixture
def client(plane: PlainDataPlane) -> Client:
    """A client of the ordinary application."""
    return Client(create_app(cast(DataPlane, plane), OPTIONS))
