"""Registries of real models for the tests."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastserve.registry import Registry
from fastserve.runtime import inspect


def publish(registry: Registry, model: str, content: bytes, **more: Any) -> int:
    """Publish an ONNX file of this content; the version."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(content)
        return registry.publish(model, file, inspect=inspect, **more)
