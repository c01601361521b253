"""What a server looks at, and says, before it starts anything; in one process."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest

from fastserve.app import supervisor
from fastserve.app.nursery import Nursery
from fastserve.app.supervisor import Supervisor
from fastserve.config import Config
from fastserve.errors import ConfigError, RegistryError
from fastserve.registry import Registry


def missing(*_: object) -> NoReturn:
    raise ConfigError("this is missing")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of a server that gets its sockets and would begin, and leaves this process as it is."""
    listener = SimpleNamespace(getsockname=lambda: ("::1", 8000, 0, 0))
    monkeypatch.setattr(supervisor, "bind", lambda *_: [listener])
    monkeypatch.setattr(supervisor, "Supervisor", _begin)
    for name in ("configure_logging", "raise_descriptor_limit", "take_stop_signals"):
        monkeypatch.setattr(supervisor, name, lambda *_: None)
    return Config.model_validate({"registry": tmp_path, "server": {"workers": 2}})


def _begin(*_: object) -> NoReturn:
    raise AssertionError("it begins")


@pytest.mark.parametrize("what", ["require_runtime", "require_tracing", "open_registry", "_check_database"])
def test_what_it_cannot_do_without_is_told_before_anything_is_started(
    config: Config, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(supervisor, what, missing)
    with pytest.raises(ConfigError, match="this is missing"):
        supervisor.serve(config)


def test_where_it_listens_and_what_it_passes_over_is_said(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(_: Registry) -> NoReturn:
        raise RegistryError("a model cannot be read")

    monkeypatch.setattr(Registry, "passed_over", lambda _: [("a.onnx", "it is no directory")])
    monkeypatch.setattr(Registry, "damaged", damaged)
    with caplog.at_level("INFO", "fastserve.app"), pytest.raises(AssertionError, match="it begins"):
        supervisor.serve(config)
    assert "on http://[::1]:8000 with 2 worker(s)" in caplog.text
    assert "'a.onnx' in the registry is not served: it is no directory" in caplog.text


@pytest.mark.parametrize(
    ("workers", "threads", "load_ahead_s", "once"),
    [(2, 1, 60, True), (1, 1, 60, False), (2, 2, 60, False), (2, 1, 0, False)],
    ids=["shared", "one worker", "threads in sessions", "not wished for"],
)
def test_when_models_are_loaded_once_for_all_workers(
    config: Config, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int, load_ahead_s: int, once: bool
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(Nursery, "open", lambda *_: opened.append("one"))
    server = config.server.model_copy(update={"load_ahead_s": load_ahead_s})
    listeners = [cast(socket.socket, None)] * workers
    made = Supervisor(config.model_copy(update={"server": server}), threads, listeners, None, None)
    assert made._open_nursery() is None and len(opened) == once
