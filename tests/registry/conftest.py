"""A registry, an ONNX file, and a look into models for tests where the session is not the point."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from fastserve.registry import AuditLine, ModelState, Registry
from fastserve.registry.state import after
from fastserve.types import DataType, Signature, TensorSpec
from tests import models

SIGNATURE = Signature(
    (TensorSpec("x", DataType.FP32, (-1, 3)),), (TensorSpec("y", DataType.FP32, (-1, 3)),), batched=True
)


def glance(path: Path) -> Signature:
    """Stand in for the runtime's look into the file."""
    assert path.is_file()
    return SIGNATURE


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "trained.onnx"
    path.write_bytes(models.scaled())
    return path


@pytest.fixture
def published(registry: Registry, onnx_file: Path) -> Registry:
    """A registry with model `m`, version 1."""
    assert registry.publish("m", onnx_file, inspect=glance) == 1
    return registry


def replay(lines: Iterable[AuditLine]) -> ModelState:
    """Work out what a log's changes, from the first on, have made of a model."""
    state = ModelState()
    for line in lines:
        state = after(state, line.event, line.details)
    return state


def tree(path: Path) -> set[str]:
    """Every file below a directory, hidden ones too, as paths relative to it."""
    return {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}
