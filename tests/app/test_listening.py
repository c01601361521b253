"""Sockets that listen before any other process is there, how they are closed, and addresses that cannot be had."""

import os
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from fastserve.app import gathering
from fastserve.app.listening import bind
from fastserve.config import Config
from fastserve.errors import ConfigError
from fastserve.registry import Registry
from tests import models
from tests.processes import children
from tests.registries import publish
from tests.servers import drain, running


def test_an_address_that_cannot_be_had_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"^cannot listen on 192\.0\.2\.1: it is no address of this machine$"
    ):
        bind("192.0.2.1", 0, 1, 1)
    (taken,) = bind("127.0.0.1", 0, 1, 1)
    with taken, pytest.raises(ConfigError, match=r"--port takes another"):
        bind("127.0.0.1", taken.getsockname()[1], 1, 1)


def test_a_host_that_cannot_be_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ConfigError, match=rf"^cannot find the host '{'x' * 64}': it is no name of one$"):
        bind("x" * 70, 0, 1, 1)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(ConfigError, match=r"^cannot find the host 'nowhere': Name or service not known$"):
        bind("nowhere", 0, 1, 1)


def test_workers_share_whichever_port_was_free_and_nobody_else_gets_one() -> None:
    with ExitStack() as opened:
        listeners = [opened.enter_context(one) for one in bind("127.0.0.1", 0, 1, 3)]
        (port,) = {one.getsockname()[1] for one in listeners}
        with pytest.raises(ConfigError, match="already in use"):
            bind("127.0.0.1", port, 1, 2)
        (alone,) = (opened.enter_context(one) for one in bind("127.0.0.1", 0, 1, 1))
        other = opened.enter_context(socket.socket())
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="already in use"):
            other.bind(alone.getsockname())


def test_a_port_is_free_again_although_connections_of_the_one_before_linger() -> None:
    (listener,) = bind("127.0.0.1", 0, 1, 1)
    address = listener.getsockname()
    with listener, socket.create_connection(address) as client:
        listener.accept()[0].close()  # whoever closes first has the port in TIME_WAIT
        assert client.recv(1) == b""
    for one in bind("127.0.0.1", address[1], 1, 2):
        one.close()


@pytest.mark.parametrize(
    ("host", "shown"), [("::1", "http://[::1]:8002"), ("10.0.0.1", "http://10.0.0.1:8002")]
)
def test_where_a_control_plane_listens_is_said_as_a_browser_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str, shown: str
) -> None:
    listener = SimpleNamespace(getsockname=lambda: (host, 8002))
    monkeypatch.setattr(gathering, "bind", lambda *_: [listener])
    monkeypatch.setattr("fastserve.controlplane.process.run", lambda *_: None)
    for name in ("configure_logging", "raise_descriptor_limit", "take_stop_signals"):
        monkeypatch.setattr(gathering, name, lambda *_: None)
    config = Config.model_validate({"registry": tmp_path, "control": {"token": "secret"}})
    with caplog.at_level("INFO", "fastserve.app"):
        assert gathering.control(config) == 0
    assert f"the control plane listens on {shown}" in caplog.text


@pytest.mark.parametrize(("workers", "uvloop"), [(1, True), (2, True), (1, False)])
def test_who_has_come_when_the_server_stops_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, uvloop: bool
) -> None:
    if not uvloop:
        (tmp_path / "uvloop.py").write_text("raise ImportError")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    registry = Registry(tmp_path / "registry")
    publish(registry, "scaled", models.scaled())
    with (
        running(registry.path, tmp_path, {"server": {"workers": workers}}) as server,
        ExitStack() as connections,
    ):
        processes = children(server.process.pid) or [server.process.pid]
        send(processes, signal.SIGSTOP)
        clients = [connections.enter_context(server.connect()) for _ in range(60)]
        for raw in clients:
            raw.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        server.process.terminate()
        send(processes, signal.SIGCONT)
        answers = [drain(raw) for raw in clients]
        assert server.process.wait(20) == 0
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * len(clients)


def send(processes: list[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there: what helped the workers to start ends meanwhile."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
