"""A real `fastserve serve` process for as long as the demo needs it, and the client that asks it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from fastserve.errors import FastserveError

HOST = "127.0.0.1"
_READY_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.05
_TAIL_BYTES = 2_000
_INTERVAL_S = 0.2
"""Of the statistics: the demo shows them at once."""
_SCAN_S = 0.5
"""Of the registry, where the file system does not announce a new version."""


class Server:
    """A server over one registry on free ports of this machine, until the end of the `with` block.

    It starts while the caller does other things: the registry may be empty at first. `state` is the directory
    in which its control plane keeps what it gathers.
    """

    def __init__(self, registry: Path, state: Path, log: Path) -> None:
        self.port, self.control_port = _free_ports()
        self._log = log
        # What the caller's environment says about another server is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.database = f"sqlite:///{state.resolve() / 'control.db'}"
        """The URL of what the control plane keeps."""
        environment["FASTSERVE_CONTROL__DATABASE"] = self.database
        environment["FASTSERVE_CONTROL__HOST"] = HOST
        environment["FASTSERVE_MONITORING__INTERVAL_S"] = str(_INTERVAL_S)
        environment["FASTSERVE_LIFECYCLE__POLL_S"] = str(_SCAN_S)
        command = [sys.executable, "-m", "fastserve.cli", "serve", "--registry", str(registry)]
        command += ["--host", HOST, "--port", str(self.port), "--control-port", str(self.control_port)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ask the server to finish what it has begun and to leave; kill it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self) -> None:
        """Block until the server ends by itself."""
        self._process.wait()

    def wait_ready(self, model: str, version: int) -> None:
        """Block until a version serves.

        Raises
        ------
        FastserveError
            The server has ended, or the version does not serve after half a minute; with its last words.
        """
        give_up_s = time.monotonic() + _READY_S
        while time.monotonic() < give_up_s:
            if self._process.poll() is not None:
                raise FastserveError(
                    f"the server ended with code {self._process.returncode}: {self.last_words()}"
                )
            try:
                with Client(self.port) as client:
                    if client.get(f"/v2/models/{model}/versions/{version}/ready")[0] == 200:
                        return
            except OSError:
                pass
            time.sleep(_POLL_S)
        raise FastserveError(
            f"{model} version {version} does not serve after {_READY_S:.0f} s: {self.last_words()}"
        )

    def last_words(self) -> str:
        """The last line that the server has logged."""
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

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of the answer to a GET."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, response.read()

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


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        # Both are held until both are known, or they could be the same one.
        for probe in (first, second):
            probe.bind((HOST, 0))
        return first.getsockname()[1], second.getsockname()[1]
