"""Starting and stopping the servers under test: pinned, on a free port, ready when a real answer is right."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.serving import processes
from benchmarks.serving.machine import Cores
from benchmarks.serving.payloads import Payload

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
SETTLE_LIMIT_S = 10.0


class ServerError(Exception):
    """A server did not start, died, or answered wrongly; the message ends with its last log lines."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How to start one server; `{port}` in the command is replaced by the port it shall listen on."""

    name: str
    command: Sequence[str]
    cores: Cores
    environment: Mapping[str, str] = field(default_factory=dict)
    constant: bool = False
    """Always gives the same answer, so that its answer is not compared."""


def uvicorn(
    name: str, factory: str, cores: Cores, environment: Mapping[str, str], *, constant: bool
) -> ServerSpec:
    """An ASGI application under uvicorn at its fastest: uvloop, httptools, no access log, one process."""
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", factory, "--host", "127.0.0.1", "--port", "{port}"),
        *("--loop", "uvloop", "--http", "httptools", "--lifespan", "off"),
        *("--no-access-log", "--log-level", "warning"),
    ]
    return ServerSpec(name, command, cores, environment, constant)


def fastapi(payload: Payload, cores: Cores) -> ServerSpec:
    """The hand-written application."""
    environment = {
        "BENCHMARK_MODEL_NAME": payload.model.name,
        "BENCHMARK_MODEL_FILE": str(payload.model_file),
    }
    factory = "benchmarks.serving.rivals.fastapi_app:create_app"
    return uvicorn("FastAPI", factory, cores, environment, constant=False)


def constant(payload: Payload, directory: Path, cores: Cores) -> ServerSpec:
    """The application that answers fixed bytes: a real answer to this payload, kept in `directory`."""
    answer = directory / f"{payload.title}.answer"
    answer.write_bytes(payload.answer)
    factory = "benchmarks.serving.rivals.constant_app:create_app"
    return uvicorn("constant", factory, cores, {"BENCHMARK_ANSWER_FILE": str(answer)}, constant=True)


def fastserve(
    registry: Path, cores: Cores, *, name: str = "fastserve", workers: int = 1, config: Path | None = None
) -> ServerSpec:
    """The server of this tree, without control plane; default settings unless `config` says otherwise."""
    command = [
        *(sys.executable, "-m", "fastserve.cli", "serve", "--registry", str(registry), "--host", "127.0.0.1"),
        *("--port", "{port}", "--workers", str(workers), "--control-port", "0"),
    ]
    if config is not None:
        command += ["--config", str(config)]
    return ServerSpec(name, command, cores)


def run_command(*arguments: str) -> None:
    """Run a command of this tree the way a user does; ServerError when it fails."""
    command = [sys.executable, "-m", "fastserve.cli", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if run.returncode != 0:
        said = run.stderr.strip() or run.stdout.strip()
        raise ServerError(f"fastserve {' '.join(arguments[:2])} failed: {said}")


def publish(payload: Payload, registry: Path) -> None:
    """Put the payload's model into a registry."""
    name, file = payload.model.name, str(payload.model_file)
    run_command("models", "publish", name, file, "--registry", str(registry))


class Server:
    """One running server; leaving the `with` block ends it and everything it started."""

    def __init__(self, spec: ServerSpec, payload: Payload, directory: Path) -> None:
        self.spec = spec
        self._payload = payload
        self._log = directory / f"{spec.name.replace(' ', '-')}-{payload.title}.log"

    def __enter__(self) -> Self:
        self.port = free_port()
        command = [part.format(port=self.port) for part in self.spec.command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **self.spec.environment}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", self.spec.cores.server, *command],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def rss_bytes(self) -> int:
        """Resident memory of the server with its workers."""
        return processes.rss_bytes(self._process.pid)

    def cpu_s(self) -> float:
        """Processor time used so far by the server with its workers."""
        return processes.cpu_s(self._process.pid)

    def settle(self) -> None:
        """Wait until the server rests: work left over when the load ended must not slow the next one."""
        limit = time.monotonic() + SETTLE_LIMIT_S
        while time.monotonic() < limit:
            used_s = self.cpu_s()
            time.sleep(0.1)
            if self.cpu_s() - used_s < 0.03:
                return

    def _wait_ready(self) -> None:
        limit = time.monotonic() + START_LIMIT_S
        while True:
            try:
                return self._probe()
            except (OSError, http.client.HTTPException) as error:
                reason = repr(error)
            except ServerError as error:
                reason = str(error)
            if self._process.poll() is not None:
                raise ServerError(
                    f"{self.spec.name} ended with {self._process.returncode}:\n{self._last_lines()}"
                )
            if time.monotonic() > limit:
                raise ServerError(f"{self.spec.name} is not ready ({reason}):\n{self._last_lines()}")
            time.sleep(0.05)

    def _probe(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", self._payload.path, self._payload.bodies[0], self._payload.headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ServerError(f"{self.spec.name} answered {response.status}: {body[:200]!r}")
        if not self.spec.constant:
            json_length = response.getheader("inference-header-content-length")
            self._payload.check(body, None if json_length is None else int(json_length))

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def _stop(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_LIMIT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # workers that outlived their parent
        self._process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
