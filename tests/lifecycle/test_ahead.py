"""What a process loads before anything serves: small, tested versions; all else is left for a proper load."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from fastserve.batching import BatchingOptions
from fastserve.errors import ModelFailed, RegistryError
from fastserve.lifecycle import LifecycleOptions, Loaded, Loader, Scanner, by_urgency, load_ahead, load_small
from fastserve.lifecycle.memory import NotEnoughMemory
from fastserve.lifecycle.probe import vouch
from fastserve.registry import Registry, VersionRecord
from fastserve.runtime import RuntimeOptions
from tests import models
from tests.registries import publish

OPTIONS = LifecycleOptions(versions=1)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """`small` and `large` are tested, `untested` is not, and a file of `broken` is not what was published."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(tmp_path / "registry")
    for seed, name in enumerate(("small", "broken", "untested", "large")):
        sizes = (8, 1_100, 1_000, 2) if name == "large" else (8, 4, 2)
        publish(registry, name, models.mlp.__wrapped__(*sizes, seed=seed))
        if name != "untested":
            vouch(registry.describe(name, 1), registry.path)
    model = registry.path / "broken" / "1" / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1])
    return registry


@pytest.fixture
def loader(registry: Registry) -> Iterator[Loader]:
    loader = Loader(registry, RuntimeOptions(), BatchingOptions(), OPTIONS, threads=1)
    yield loader
    loader.free_ahead()
    loader.close()


def tight(registry: Registry, ahead: dict[tuple[str, int], Loaded] | None = None) -> Loader:
    """There is room for one large version."""
    size = (registry.path / "large" / "1" / "model.onnx").stat().st_size
    options = OPTIONS.model_copy(update={"memory_bytes": int(size * 1.3)})
    return Loader(registry, RuntimeOptions(), BatchingOptions(), options, threads=1, ahead=ahead)


def test_what_takes_longer_is_left_alone(registry: Registry, loader: Loader) -> None:
    order = by_urgency(Scanner(registry, OPTIONS).scan(), 1)
    assert sorted(load_small(loader, order, lambda: True)) == [("large", 1), ("untested", 1)]
    assert [name for name, _ in order if loader.at_hand(name, 1)] == ["small"]
    with pytest.raises(RegistryError, match="broken"):
        loader.load("broken", 1)


def test_nothing_waits_for_the_checksums_of_a_large_version(
    registry: Registry, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, verify = threading.Event(), threading.Event(), registry.verify

    def slowly(model: str, version: int) -> VersionRecord:
        if model == "large":
            began.set()
            assert go_on.wait(20)
        return verify(model, version)

    monkeypatch.setattr(registry, "verify", slowly)
    assert not loader.load_quickly("large", 1)
    assert not began.is_set(), "it is left alone before its checksums"
    with ThreadPoolExecutor(2) as pool:
        try:
            large = pool.submit(loader.load, "large", 1)
            assert began.wait(20)
            loader.free(pool.submit(loader.load, "small", 1).result(20))
        finally:
            go_on.set()
        loader.free(large.result(20))


def test_what_is_at_hand_is_loaded_once(loader: Loader) -> None:
    assert loader.load_quickly("small", 1)
    kept = next(iter(loader.take_ahead().values()))
    loader.keep(kept)
    assert loader.load_quickly("small", 1)
    assert loader.load("small", 1) is kept
    assert not loader.at_hand("small", 1)
    another = loader.load("small", 1)
    assert another is not kept
    for loaded in (kept, another):
        loader.free(loaded)


def test_it_ends_when_told(loader: Loader) -> None:
    answers = iter([True, False])
    order = [("small", 1), ("large", 1), ("untested", 1)]
    assert load_small(loader, order, lambda: next(answers)) == []
    assert loader.at_hand("small", 1)


def test_before_a_fork_everything_is_loaded_and_nothing_after_the_time(
    registry: Registry, loader: Loader
) -> None:
    done: list[str] = []
    ahead = load_ahead(
        loader,
        Scanner(registry, OPTIONS),
        OPTIONS,
        threads=2,
        until_s=time.monotonic() + 60,
        meanwhile=lambda: done.append("meanwhile"),
    )
    assert sorted(ahead.loaded) == [("large", 1), ("small", 1), ("untested", 1)]
    assert done == ["meanwhile"]
    for loaded in ahead.loaded.values():
        assert loaded.took_ns > 0
        loader.free(loaded)
    late = load_ahead(loader, Scanner(registry, OPTIONS), OPTIONS, threads=2, until_s=time.monotonic())
    assert late.loaded == {}


def test_of_large_versions_no_further_one_is_begun_after_the_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: len(loaded))
    monkeypatch.setattr("fastserve.lifecycle.ahead.time", clock)
    loader = SimpleNamespace(
        load_quickly=lambda *_: False,
        load=lambda name, _: loaded.append(name),
        keep=lambda _: None,
        take_ahead=dict,
    )
    load_ahead(cast(Loader, loader), Scanner(registry, OPTIONS), OPTIONS, threads=1, until_s=1)
    assert len(loaded) == 1


def test_what_is_not_kept_keeps_nothing(registry: Registry) -> None:
    """Neither memory nor a hold on the directory: there is room for one large version only."""
    loader = tight(registry)
    for name in ("broken", "large"):
        loader.load_quickly(name, 1)
    for _ in range(2):
        loaded = loader.load("large", 1)
        loader.free(loaded)
        with pytest.raises(ModelFailed, match="its session is closed"):
            loaded.runtime.run([np.zeros((1, 8), np.float32)])
    loader.keep(loader.load("large", 1))
    loader.free_ahead()
    held = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert not [path for path in held if path.startswith(str(registry.path))]
    loader.close()


def test_what_a_process_was_born_with_takes_its_room(registry: Registry) -> None:
    parent = tight(registry)
    child = tight(registry, {("large", 1): parent.load("large", 1)})
    born_with = child.load("large", 1)
    with pytest.raises(NotEnoughMemory):
        child.load("large", 1)
    child.free(born_with)
    child.free(child.load("large", 1))
    for loader in (parent, child):
        loader.close()
