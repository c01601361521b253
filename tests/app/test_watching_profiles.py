"""Which profile a version is watched against, what becomes of it while the version serves, and what is told when;
in one process."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fastserve.app.watching import Post, Watching
from fastserve.config import Config
from fastserve.dataplane.statistics import Taken
from fastserve.errors import RegistryError
from fastserve.monitoring import Recorder
from fastserve.monitoring.pinning import Pinner
from fastserve.registry import Registry
from fastserve.runtime import inspect
from tests import models
from tests.app.watched import make_profile

ROWS = np.ones((2, 3), np.float32)


class Version:
    """As much of a served version as is watched."""

    def __init__(self, path: Path) -> None:
        self.name, self.number, self.version = "scaled", 1, "1"
        self.signature = inspect(path)
        self.watch = SimpleNamespace(watcher=None)
        self.unwatched = ""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    registry.publish("scaled", tmp_path / "model.onnx", inspect=inspect)
    return registry


@pytest.fixture
def version(tmp_path: Path, registry: Registry) -> Any:
    return Version(tmp_path / "model.onnx")


@pytest.fixture
def watch(registry: Registry) -> Callable[..., Any]:
    """Make what watches, with some settings."""

    def make(**monitoring: Any) -> Any:
        config = Config.model_validate({"monitoring": monitoring})
        loop = SimpleNamespace(call_soon_threadsafe=lambda call, *args: call(*args), run_in_executor=_at_once)
        plane = SimpleNamespace(statistics=SimpleNamespace(replace=_replace))
        post = Post(0, None, 8000)
        return Watching(config, registry, cast(Any, plane), post, cast(asyncio.AbstractEventLoop, loop))

    return make


def _at_once(_: object, call: Callable[..., object], *args: object) -> None:
    call(*args)


def _replace(served: Any, watcher: Any) -> None:
    served.watch.watcher = watcher


def test_a_profile_that_is_taken_away_is_counted_against_on(
    registry: Registry, version: Any, watch: Callable[..., Any]
) -> None:
    watching = watch()
    registry.add_profile("scaled", 1, make_profile().to_bytes())
    watching.attach(version)
    assert isinstance(version.watch.watcher, Recorder)
    (registry.path / "scaled" / "profiles" / "1.json").unlink()
    assert watching._changed([version]) == []
    registry.add_profile("scaled", 1, make_profile(1.0).to_bytes())
    assert watching._changed([version]) == [version]
    file = registry.path / "scaled" / "profiles" / "1.json"
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(RegistryError, match="cannot be read"):
        registry.profile_stamp("scaled", 1)
    assert watching._changed([version]) == []
    shutil.rmtree(registry.path / "scaled")
    assert watching._changed([version]) == []


def test_a_profile_that_could_not_be_read_matters_no_longer_once_it_is_gone(
    registry: Registry, version: Any, watch: Callable[..., Any]
) -> None:
    watching = watch()
    file = registry.path / "scaled" / "profiles" / "1.json"
    registry.add_profile("scaled", 1, make_profile().to_bytes())
    file.write_bytes(file.read_bytes()[:-9])
    watching.attach(version)
    assert version.watch.watcher is None and version.unwatched
    assert watching._changed([version]) == []
    file.unlink()
    assert watching._changed([version]) == [version]


def test_the_first_rows_become_the_reference_unless_another_worker_was_first(
    registry: Registry, version: Any, watch: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    watch(pin_rows=2).attach(version)
    pinner = version.watch.watcher
    assert isinstance(pinner, Pinner)
    assert version.unwatched == "its first 2 rows are gathered to be its reference"
    registry.add_profile("scaled", 1, make_profile().to_bytes())
    first = registry.profile("scaled", 1)
    pinner.update([ROWS], [ROWS], 2)
    assert version.watch.watcher is None
    assert registry.profile("scaled", 1) == first
    assert "were not made its reference" in caplog.text
    assert version.unwatched.startswith("its first 2 rows were not made its reference: version 1 of model")


def test_rows_are_no_reference_once_a_profile_has_come(
    registry: Registry, version: Any, watch: Callable[..., Any]
) -> None:
    watch(pin_rows=2).attach(version)
    pinner, other = version.watch.watcher, object()
    version.watch.watcher = other
    pinner.update([ROWS], [ROWS], 2)
    assert version.watch.watcher is other
    assert registry.profile("scaled", 1) is None


def test_an_output_that_is_left_out_is_named(
    registry: Registry, version: Any, watch: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    registry.add_profile("scaled", 1, make_profile().to_bytes())
    (output,) = version.signature.outputs
    version.signature = replace(version.signature, outputs=(replace(output, shape=(-1, -1)),))
    watch().attach(version)
    assert isinstance(version.watch.watcher, Recorder) and version.unwatched == ""
    assert (
        "output 'y' of model scaled version 1 is not watched: its profile gives it a fixed size"
        in caplog.text
    )


def test_settings_of_a_model_that_cannot_be_read_are_the_servers(
    registry: Registry, version: Any, watch: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    (registry.path / "scaled" / "model.yaml").write_text("monitoring: {enabled: perhaps}\n")
    watch(pin_rows=3).attach(version)
    assert version.watch.watcher.wanted == 3
    assert "model.yaml of model scaled: " in caplog.text


def test_settings_of_a_model_are_those_of_its_versions(
    registry: Registry, version: Any, watch: Callable[..., Any]
) -> None:
    file = registry.path / "scaled" / "model.yaml"
    file.write_text("monitoring: {pin_rows: 3}\n")
    watch(pin_rows=2).attach(version)
    assert version.watch.watcher.wanted == 3
    file.write_text("monitoring: {pin_rows: 3, max_features: 2}\n")
    watch().attach(version)
    assert version.watch.watcher is None
    assert version.unwatched.startswith("it has no profile, and none can be made of its rows: ")


def test_a_version_that_is_not_to_be_watched_is_not_looked_at(
    registry: Registry, version: Any, watch: Callable[..., Any]
) -> None:
    watching = watch(enabled=False)
    watching.attach(version)
    registry.add_profile("scaled", 1, make_profile().to_bytes())
    assert (version.watch.watcher, version.unwatched) == (None, "monitoring is off")
    assert watching._changed([version]) == []


def test_what_is_told_and_when(watch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing while the sender is behind; and no span ends before it begins, although a clock is set back."""
    clock_ms, behind, told = (
        iter([1_000, 1_500, 900, 1_400, 2_000]),
        iter([False, True, True, False, False]),
        [],
    )
    monkeypatch.setattr("fastserve.app.watching.wall_ms", lambda: next(clock_ms))
    watching = watch()
    watching._plane.take_statistics = Taken
    watching._sender = SimpleNamespace(offer=lambda report: told.append(report.span_ms))

    async def sleep(_: float) -> None:
        watching._sender.behind = next(behind, None)
        if watching._sender.behind is None:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watching._tell_on())
    assert told == [(1_000, 1_500), (900, 900), (900, 1_400)]
