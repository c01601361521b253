"""Registries, an ONNX file, a look into models where the session is not the point, and a death at any step."""

import errno
import os
import signal
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fastserve.registry import AuditLine, ModelState, Registry, files
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


def versions(registry: Registry, *numbers: int) -> Registry:
    """Make versions of model `m` as other hands would."""
    for number in numbers:
        (registry.path / "m" / str(number)).mkdir(parents=True)
        (registry.path / "m" / str(number) / "model.onnx").write_bytes(b"model")
    return registry


@pytest.fixture
def four(registry: Registry) -> Registry:
    """A registry with model `m`, versions 1 to 4, of other hands."""
    return versions(registry, 1, 2, 3, 4)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on nothing is opened for writing, as on a file system that is mounted so."""
    really = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really(path, flags, *rest, **more)

    return lambda: monkeypatch.setattr(os, "open", refuse)


def replay(lines: Iterable[AuditLine]) -> ModelState:
    """Work out what a log's changes, from the first on, have made of a model."""
    state = ModelState()
    for line in lines:
        state = after(state, line.event, line.details)
    return state


def die_at(change: Callable[[], object], moment: int) -> str:
    """Change in a child that kills itself at the given step; give the step's name, or "" where none was left."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        steps = 0

        def step(name: str) -> None:
            nonlocal steps
            steps += 1
            if steps == moment:
                os.write(writer, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            files.on_step = step
            change()
            code = 0
        except BaseException:  # noqa: BLE001 - the child must not go on as a second test run
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as names:
        name = names.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == bool(name)
    assert name or os.WEXITSTATUS(status) == 0
    return name


def tree(path: Path) -> set[str]:
    """Every file below a directory, hidden ones too, as paths relative to it."""
    return {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}
