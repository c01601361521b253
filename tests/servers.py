"""Real `fastserve serve` processes for the tests, on a free port of the loopback."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

START_S = 60.0


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Answer:
    """Status, headers and body of one response."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json()["error"])


def request(
    port: int, method: str, path: str, body: bytes | Any | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own; a body that is not bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())


class Server:
    """One running server."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: bytes | Any | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        return request(self.port, method, path, body, headers)

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)


def drain(raw: socket.socket) -> bytes:
    """Everything until the peer closes."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := raw.recv(65536):
            received += chunk
    return bytes(received)


@contextlib.contextmanager
def running(
    registry: Path, tmp: Path, config: dict[str, Any] | None = None, ready: bool = True
) -> Iterator[Server]:
    """Start `fastserve serve` on `registry` with the given settings; stop it with SIGTERM afterwards.

    It has no control plane unless the settings give it a port.
    """
    with started(registry, tmp, config) as server:
        workers = (config or {}).get("server", {}).get("workers", 1)
        # New connections land on any worker: so many answers in a row mean all of them.
        wait_until_up(server, ready, 1 if workers == 1 else 10 * workers)
        yield server


@contextlib.contextmanager
def started(registry: Path, tmp: Path, config: dict[str, Any] | None = None) -> Iterator[Server]:
    """The same, but nobody waits until it answers."""
    port = free_port()
    settings = {"log": {"level": "info"}, **(config or {})}
    settings["server"] = {"control_port": 0, **settings.get("server", {})}
    path = tmp / f"config-{port}.yaml"
    path.write_text(yaml.safe_dump(settings))
    log = tmp / f"server-{port}.log"
    command = [sys.executable, "-m", "fastserve.cli", "serve", "--registry", str(registry)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--config", str(path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FASTSERVE_")}
    with log.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, text=True, env=environment)
    server = Server(process, port, log)
    try:
        yield server
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def wait_until_up(server: Server, ready: bool, answers: int = 1) -> None:
    """Wait until so many answers in a row say that the server is ready (or, with ready=False, only alive)."""
    path = "/v2/health/ready" if ready else "/v2/health/live"
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            if all(server.request("GET", path).status == 200 for _ in range(answers)):
                return
        time.sleep(0.05)
    raise AssertionError(f"the server did not come up:\n{server.log.read_text()}")
