"""A registry with a model that answers and one that can be made to fail, and servers that are traced."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastserve.registry import Registry
from tests import models
from tests.registries import publish
from tests.servers import Server, running

Traced = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("traced") / "registry")
    publish(registry, "scaled", models.scaled())
    publish(registry, "picky", models.failing_on_negative())
    return registry.path


@pytest.fixture(scope="session")
def traced(registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Start a server with tracing on, the given OTEL_ variables and settings."""

    @contextmanager
    def start(variables: dict[str, str], **settings: Any) -> Iterator[Server]:
        config = {"tracing": {"enabled": True}, **settings}
        with ExitStack() as up:
            with pytest.MonkeyPatch.context() as patch:
                for name in [name for name in os.environ if name.startswith("OTEL_")]:
                    patch.delenv(name)
                for name, value in variables.items():
                    patch.setenv(name, value)
                server = up.enter_context(running(registry, tmp_path_factory.mktemp("server"), config))
            yield server

    return start
