"""A real `fastserve serve` process for as long as the demo needs it, and the client that asks it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastserve.errors import FastserveError

HOST = "127.0.0.1"
_READY_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.05
_TAIL_BYTES = 2_000


class Server:
    """A server over one registry on a free port of this machine; ready inside the `with` block."""

    def __init__(self, registry: Path, log: Path) -> None:
        self.port = _free_port()
        self._log = log
        self._command = ["serve", "--registry", str(registry), "--host", HOST, "--port", str(self.port)]
        self._command += ["--control-port", "0"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # What the caller's environment says about another server is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastserve.cli", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> None:
        """Block until the server ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Ask the server to finish what it has begun and to leave; kill it when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up_s = time.monotonic() + _READY_S
        while time.monotonic() < give_up_s:
            if process.poll() is not None:
                raise FastserveError(f"the server ended with code {process.returncode}: {self._tail()}")
            try:
                with Client(self.port) as client:
                    if client.get("/v2/health/ready") == 200:
                        return
            except OSError:
                pass
            time.sleep(_POLL_S)
        raise FastserveError(f"the server was not ready after {_READY_S:.0f} s: {self._tail()}")

    def _tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it wrote nothing to {self._log}"


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str) -> int:
        """The status of a GET."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        response.read()
        return response.status

    def post(self, path: str, body: bytes) -> Any:
        """The answer to a POST of JSON; FastserveError with the server's own words when it is not 200."""
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise FastserveError(
                f"POST {path} was answered {response.status}: {answer.decode(errors='replace')[:500]}"
            )
        return json.loads(answer)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
