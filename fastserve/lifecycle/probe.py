"""Untrusted models are loaded in a child process first: what crashes or hangs there harms nobody.

One child per `Prober` stays while there is something to load and forks for each test load, because starting
an interpreter with onnxruntime takes as long as loading a hundred small models.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from signal import SIGKILL, SIGXCPU
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fastserve.errors import FastserveError, ModelRejected, RuntimeMissing
from fastserve.lifecycle import directory, probed
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.registry import VersionRecord
from fastserve.runtime.probe_process import MAX_REPLY_BYTES, MAX_REQUEST_BYTES
from fastserve.types import Signature

_IDLE_S = 300.0
_START_S = 60.0
_SEND_S = 10.0
_GRACE_S = 10.0
_READ_BYTES = 64 * 1024
_MIB = 2**20
_BASE_BYTES = 2**30
_TIMES_SIZE = 4

# A second thread in the process that forks could leave a lock taken in its children for ever.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Prober:
    """Test-loads versions that were not seen before. Thread-safe; several tests run side by side."""

    def __init__(
        self,
        registry_path: Path,
        options: LifecycleOptions,
        *,
        cache: Path | None = None,
        idle_s: float = _IDLE_S,
    ) -> None:
        """Nothing is started before something is to be tested; `cache` is where what passed is remembered."""
        self._root = registry_path
        self._options = options
        self._cache = cache if cache is not None else probed.own_cache()
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._passed: set[str] = set()
        self._process: _Process | None = None
        self._timer: threading.Timer | None = None
        self._busy = 0
        self._used_s = 0.0
        self._closed = False
        self.tests = 0
        """Test loads so far."""
        # A child inherits the niceness of the thread that starts it, and loading threads are polite: on a
        # busy machine the interpreter would take seconds to start. This thread, made here, starts it.
        self._starter = ThreadPoolExecutor(1, "fastserve-probe-start")
        self._starter.submit(lambda: None).result()
        if self._cache is not None:
            probed.trim(self._cache)

    def passed(self, record: VersionRecord) -> bool:
        """Tell whether `check` has passed it, here or in another process of this user."""
        key = self._key(record)
        if key not in self._passed and probed.has_passed(self._cache, key):
            self._passed.add(key)
        return key in self._passed

    def check(self, record: VersionRecord) -> None:
        """Return when the version loads and runs one row in a child process, or did so before.

        Raises
        ------
        ModelRejected, RuntimeMissing
        """
        key = self._key(record)
        if key in self._passed:
            return
        with probed.marker(self._cache, key, self._options.probe_timeout_s + _GRACE_S) as marker:
            if marker.passed():
                self._passed.add(key)
            elif self._test(record.path) is not None:
                self._passed.add(key)
                marker.remember()

    def get_ready(self) -> None:
        """Start the child process ahead of the first test, which a busy machine would let wait for it."""
        with suppress(FastserveError):  # the first test will say it again
            self._take()
            self._give()

    def close(self) -> None:
        """End the child process; whoever waits for a test gets ModelRejected."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if process is not None:
            process.end()
        self._starter.shutdown(wait=False)

    def _key(self, record: VersionRecord) -> str:
        return probed.fingerprint(record, self._root, verified=self._options.verify)

    def _test(self, path: Path) -> Signature | None:
        request = _request(path, self._options)
        for _ in range(2):  # the child process itself may have been ended, by whomever
            process = self._take()
            self.tests += 1
            try:
                answer = process.ask(request)
            finally:
                self._give()
            if answer is not None:
                return _verdict(answer, request, clean_errors_count=False)
        raise ModelRejected("the process that was to test-load it has been ended from outside")

    def _take(self) -> "_Process":
        with self._lock:
            if self._closed:
                raise ModelRejected("it was not test-loaded: the server is ending")
            if self._process is not None and not self._process.lives():
                self._process.end()
                self._process = None
            if self._process is None:
                self._process = self._starter.submit(_Process).result()
            self._busy += 1
            return self._process

    def _give(self) -> None:
        with self._lock:
            self._busy -= 1
            self._used_s = time.monotonic()
            if self._timer is None and not self._closed:
                self._watch()

    def _watch(self) -> None:
        self._timer = threading.Timer(self._idle_s, self._end_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _end_if_idle(self) -> None:
        """Give the memory of a process back that has nothing to do."""
        with self._lock:
            self._timer = None
            if self._closed or self._process is None:
                return
            if self._busy or time.monotonic() - self._used_s < self._idle_s:
                self._watch()
                return
            process, self._process = self._process, None
        process.end()


def inspect_apart(path: Path, options: LifecycleOptions) -> Signature:
    """Give what `fastserve.runtime.inspect` gives, from a child with the limits of a server's test loads.

    Raises
    ------
    ModelRejected, RuntimeMissing
    """
    request = _request(path, options)
    process = _Process()
    try:
        answer = process.ask(request)
    finally:
        process.end()
    signature = None if answer is None else _verdict(answer, request, clean_errors_count=True)
    if signature is None:
        raise ModelRejected("the process that was to test-load it has been ended from outside")
    return signature


def vouch(record: VersionRecord, registry_path: Path) -> None:
    """Remember that a version has passed `inspect_apart`: this user's servers need not test it again."""
    key = probed.fingerprint(record, registry_path, verified=True)
    with probed.marker(probed.own_cache(), key, 0.0) as marker:
        marker.remember()


class _Process:
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
                line = _line(near, time.monotonic() + request["timeout_s"] + _GRACE_S)
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
            self._popen.wait(_GRACE_S)
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
        try:
            chunk = near.recv(_READ_BYTES)
        except ConnectionError:
            break
        data += chunk
        if not chunk or chunk.endswith(b"\n"):
            break
    return bytes(data)


def _request(path: Path, options: LifecycleOptions) -> dict[str, Any]:
    memory = options.probe_memory_bytes or _BASE_BYTES + _TIMES_SIZE * directory.size_bytes(path.parent)
    return {
        "path": str(path.absolute()),
        "timeout_s": options.probe_timeout_s,
        "memory_bytes": memory,
    }


def _verdict(answer: Any, request: dict[str, Any], *, clean_errors_count: bool) -> Signature | None:
    """Give the signature, or raise why not; None for an error that only loading it for real can judge."""
    code = answer["code"]
    report = answer["report"] if isinstance(answer["report"], dict) else {}
    if answer["expired"] or code == -SIGXCPU:
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
