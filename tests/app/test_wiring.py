"""What a worker's rooms do for each other when one of them fails."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fastserve.app.wiring import Lifecycle
from fastserve.batching import BatchingOptions
from fastserve.lifecycle import LifecycleOptions, Loader
from fastserve.registry import Registry
from fastserve.registry.holding import alone
from fastserve.runtime import RuntimeOptions
from tests import models
from tests.registries import publish


@pytest.mark.parametrize("where", ["prepare", "attach"])
def test_a_version_that_cannot_be_made_to_serve_is_let_go(tmp_path: Path, where: str) -> None:
    registry = Registry(tmp_path / "registry")
    version = registry.path / "m" / str(publish(registry, "m", models.scaled()))
    loader = Loader(registry, RuntimeOptions(), BatchingOptions(), LifecycleOptions(probe=False), threads=1)

    def fail(_: object) -> None:
        with alone(version) as is_free:
            assert not is_free, "it is held while it is made to serve"
        raise MemoryError

    rooms = {"prepare": lambda _: None, "attach": lambda _: None, where: fail}
    worker = SimpleNamespace(
        _loader=loader,
        plane=SimpleNamespace(prepare=rooms["prepare"]),
        _watching=SimpleNamespace(attach=rooms["attach"]),
    )
    with pytest.raises(MemoryError):
        Lifecycle._load(worker, "m", 1)  # type: ignore[arg-type]
    with alone(version) as is_free:
        assert is_free


def test_what_takes_a_moment_is_loaded_by_whoever_looks_at_the_first_look_only() -> None:
    done: list[str] = []
    worker = SimpleNamespace(
        _ahead_s=60.0,
        _load_first=lambda *_: done.append("loads"),
        _loop=SimpleNamespace(call_soon_threadsafe=lambda call, *said: call(*said)),
        _wish=lambda _: done.append("wishes"),
    )
    for _ in range(2):
        Lifecycle._tell(worker, {})  # type: ignore[arg-type]
    assert done == ["loads", "wishes", "wishes"]
