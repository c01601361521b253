"""Real control plane processes, with a port, a Unix socket and a lifeline of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastserve.monitoring.transport import Link
from tests.servers import Answer, request

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
TOKEN = "let me in"

PROGRAM = """
import functools, signal, socket, sys
from pathlib import Path
from fastserve.controlplane import process
from fastserve.controlplane.options import ControlOptions
from fastserve.errors import FastserveError
from fastserve.log import configure_logging

# Nobody waits five seconds for a lock in a test.
process.open_database = functools.partial(process.open_database, busy_timeout_s=0.3)

class Log:
    level = "info"
    format = "text"

registry, ingest, listener, lifeline, options = sys.argv[1:]
configure_logging(Log)
try:
    process.run(
        ControlOptions.model_validate_json(options),
        Path(registry),
        socket.socket(fileno=int(listener)),
        Path(ingest),
        int(lifeline),
        (signal.SIGTERM,),
    )
except FastserveError as error:
    sys.exit(f"refused: {error}")
"""


class ControlProcess:
    """One running control plane."""

    def __init__(self, folder: Path, options: dict[str, Any], address: str = "127.0.0.1") -> None:
        self.registry = folder / "registry"
        self.registry.mkdir(exist_ok=True)
        self.ingest = folder / "s.sock"
        self.log = folder / "log"
        with socket.socket() as listener, self.log.open("ab") as log:
            listener.bind((address, 0))
            listener.listen()
            self.port = int(listener.getsockname()[1])
            lifeline, self._lifeline = os.pipe()
            given = json.dumps({"token": TOKEN, **options})
            command = [sys.executable, "-c", PROGRAM, str(self.registry), str(self.ingest)]
            self.process = subprocess.Popen(
                [*command, str(listener.fileno()), str(lifeline), given],
                cwd=ROOT,
                pass_fds=(listener.fileno(), lifeline),
                stdout=log,
                stderr=log,
            )
            os.close(lifeline)

    def wait_ready(self) -> None:
        give_up_s = time.monotonic() + START_S
        while time.monotonic() < give_up_s:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                if self.request("GET", "/v2/control/health").status == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        return request(self.port, method, path, body, headers)

    def link(self) -> Link:
        return Link(self.ingest)

    def post(self, body: bytes) -> tuple[int, dict[str, object]]:
        """Send a snapshot over the Unix socket, on a connection of its own."""
        with contextlib.closing(self.link()) as link:
            return link.post(body)

    def cut_lifeline(self) -> None:
        os.close(self._lifeline)
        self._lifeline = -1

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        if self._lifeline >= 0:
            self.cut_lifeline()
        return code


@contextlib.contextmanager
def control_process(folder: Path, address: str = "127.0.0.1", **options: Any) -> Iterator[ControlProcess]:
    one = ControlProcess(folder, options, address)
    try:
        one.wait_ready()
        yield one
    finally:
        one.stop(signal.SIGKILL)
