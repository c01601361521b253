"""The child process that test loads happen in: what it is asked, and what its answers mean."""

import json
import os
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from signal import SIGKILL
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fastserve.errors import ModelRejected, RuntimeMissing
from fastserve.lifecycle import directory
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.runtime.probe_process import MAX_REPLY_BYTES, MAX_REQUEST_BYTES
from fastserve.types import Signature

GRACE_S = 10.0
"""How much longer than a test load may take its answer is waited for."""
_START_S = 60.0
_SEND_S = 10.0
_READ_BYTES = 64 * 1024
_MIB = 2**20
_BASE_BYTES = 2**30
_TIMES_SIZE = 4

# A second thread in the process that forks could leave a lock taken in its children for ever.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class ProbeChild:
    """The child that forks, and the one way to talk to it. `ask` is safe from several threads."""

    def __init__(self) -> None:
        self._lost = False
        self._control, far = _socketpair(socket.SOCK_SEQPACKET)
        try:
            with far:
                self._popen = subprocess.Popen(
                    # -P: a random.py in the directory that the command is called in is none of its business.
                    [sys.executable, "-P", "-m", "fastserve.runtime.probe_process", str(far.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[far.fileno()],
                    env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
        except OSError as error:
            self._control.close()
            raise ModelRejected(f"no process to test-load it in can be started: {error.strerror}") from error
        try:
            self._greet()
        except BaseException:
            self.end()
            raise

    def _greet(self) -> None:
        self._control.settimeout(_START_S)
        try:
            hello = self._control.recv(MAX_REQUEST_BYTES)
        except OSError as error:
            raise ModelRejected("the process to test-load it in does not answer") from error
        if not hello:
            code = self._popen.wait()
            raise ModelRejected(f"the process to test-load it in ends at once (exit code {code})")
        if not json.loads(hello)["ready"]:
            raise RuntimeMissing()
        self._control.settimeout(_SEND_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def lives(self) -> bool:
        """Tell whether it can be asked."""
        # Its sockets close some time before the system says that it has ended.
        return not self._lost and self._popen.poll() is None

    def ask(self, request: dict[str, Any]) -> Any:
        """Have one model test-loaded; None when the process ended before it could answer."""
        near, far = _socketpair(socket.SOCK_STREAM)
        with near:
            with far:
                try:
                    socket.send_fds(self._control, [json.dumps(request).encode()], [far.fileno()])
                except OSError:
                    self._lost = True
                    return None
            try:
                line = _line(near, time.monotonic() + request["timeout_s"] + GRACE_S)
            except TimeoutError:  # it should have ended the test long ago, so something is wrong with itself
                self._popen.kill()
                self._lost = True
                raise ModelRejected(_too_slow(request)) from None
        if not line.endswith(b"\n"):
            self._lost = True
            return None
        return json.loads(line)

    def end(self) -> None:
        """Let it end its children and itself."""
        self._control.close()
        if self._lost:
            self._popen.kill()
        try:
            self._popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def _socketpair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair(socket.AF_UNIX, kind)
    except OSError as error:
        raise ModelRejected(f"no process to test-load it in can be asked: {error.strerror}") from error


def _line(near: socket.socket, until_s: float) -> bytes:
    data = bytearray()
    while len(data) <= 2 * MAX_REPLY_BYTES:
        near.settimeout(max(0.001, until_s - time.monotonic()))
        chunk = near.recv(_READ_BYTES)
        data += chunk
        if not chunk or chunk.endswith(b"\n"):
            break
    return bytes(data)


def request_of(path: Path, options: LifecycleOptions) -> dict[str, Any]:
    """What is asked to have a model file test-loaded."""
    memory = options.probe_memory_bytes or _BASE_BYTES + _TIMES_SIZE * directory.size_bytes(path.parent)
    return {
        "path": str(path.absolute()),
        "timeout_s": options.probe_timeout_s,
        "memory_bytes": memory,
    }


def verdict(answer: Any, request: dict[str, Any], *, clean_errors_count: bool) -> Signature | None:
    """Give the signature, or raise why not; None for an error that only loading it for real can judge."""
    code = answer["code"]
    report = answer["report"] if isinstance(answer["report"], dict) else {}
    if answer["expired"]:
        raise ModelRejected(_too_slow(request))
    if report.get("memory"):
        raise ModelRejected(
            f"loading it needed more memory than {request['memory_bytes'] / _MIB:,.0f} MiB "
            "(lifecycle.probe_memory_bytes)"
        )
    if "rejected" in report:
        if report.get("final") or clean_errors_count:
            raise ModelRejected(str(report["rejected"]))
        return None
    if "signature" in report:
        try:
            return _signatures().validate_python(report["signature"])
        except ValidationError as error:
            raise ModelRejected("the process that test-loaded it reported nonsense") from error
    if code == -SIGKILL:
        raise ModelRejected(
            "loading it got a test process killed (signal 9), as happens when the machine runs out of memory"
        )
    if code < 0:
        raise ModelRejected(f"loading it crashed a test process (signal {-code})")
    raise ModelRejected(f"loading it ended a test process (exit code {code})")


def _too_slow(request: dict[str, Any]) -> str:
    return f"loading it took longer than {request['timeout_s']:g} s (lifecycle.probe_timeout_s)"


@cache
def _signatures() -> TypeAdapter[Signature]:
    return TypeAdapter(Signature)
