"""What a worker's rooms do for each other when one of them fails."""

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastserve.app.overdue import Overdue
from fastserve.app.running import Board
from fastserve.app.wiring import Lifecycle
from fastserve.batching import BatchingOptions
from fastserve.lifecycle import LifecycleOptions, Loader, Wish
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
        _overdue=Overdue(Board()),
        _withdraws=True,
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


@pytest.mark.parametrize(
    ("stopping", "ahead_s", "loaded"),
    [(False, 60.0, ["m 1", "m 2"]), (True, 60.0, []), (False, -1.0, [])],
    ids=["in time", "the server ends", "too late"],
)
def test_what_takes_a_moment_is_loaded_in_time_and_after_it_is_known(
    stopping: bool, ahead_s: float, loaded: list[str]
) -> None:
    done: list[str] = []

    def load_quickly(model: str, version: int) -> bool:
        done.append(f"{model} {version}")
        return True

    worker = SimpleNamespace(
        _newest=2,
        _stopping=stopping,
        _loader=SimpleNamespace(at_hand=lambda _, version: version == 3, load_quickly=load_quickly),
        _loop=SimpleNamespace(call_soon_threadsafe=lambda call: call()),
        _wish=lambda _, wait: done.append(f"wishes, {wait}"),
    )
    wishes = {"m": Wish((3, 2, 1), {"champion": 1})}
    Lifecycle._load_first(worker, wishes, time.monotonic() + ahead_s)  # type: ignore[arg-type]
    assert done == ["wishes, True", *loaded]


def test_once_a_start_is_over_what_nobody_asked_for_is_given_back_and_garbage_is_collected() -> None:
    done: list[str] = []
    worker = SimpleNamespace(
        _loader=SimpleNamespace(
            free_ahead=lambda: done.append("gives back"), get_ready=lambda: done.append("gets ready to test")
        ),
        _manager=SimpleNamespace(ready=lambda: True, records=list),
        _loop=SimpleNamespace(run_in_executor=lambda _, call: call()),
        settled=asyncio.Event(),
    )
    gc.disable()
    try:
        Lifecycle._on_settled(worker, lambda: done.append("tells"))  # type: ignore[arg-type]
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
    assert done == ["gives back", "tells", "gets ready to test"] and worker.settled.is_set()


@pytest.mark.parametrize("ends", [False, True], ids=["models load on and on", "the server ends"])
def test_garbage_is_collected_although_models_still_load(ends: bool) -> None:
    timers: list[tuple[float, Callable[[], None]]] = []
    room = SimpleNamespace(start=lambda *_: None, stop=lambda: None, close=lambda: None)
    worker = SimpleNamespace(
        _loop=SimpleNamespace(call_later=lambda *timer: timers.append(timer)),
        **dict.fromkeys(
            ("_manager", "_watcher", "_overdue", "_watching", "_threads", "_loader", "plane"), room
        ),
        _on_settled=lambda _: None,
    )
    try:
        Lifecycle.start(worker, lambda: None)  # type: ignore[arg-type]
        assert not gc.isenabled()
        if ends:
            Lifecycle.stop(worker)  # type: ignore[arg-type]
        else:
            ((after_s, call),) = timers
            assert after_s == 30.0
            call()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
