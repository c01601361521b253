"""Untrusted models are loaded in a child process first: what crashes or hangs there harms nobody.

One child per `Prober` stays while there is something to load and forks for each test load, because starting
an interpreter with onnxruntime takes as long as loading a hundred small models.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from fastserve.errors import FastserveError, ModelRejected
from fastserve.lifecycle import probed
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.probe_child import GRACE_S, ProbeChild, request_of, verdict
from fastserve.registry import VersionRecord
from fastserve.types import Signature

_IDLE_S = 300.0


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
        self._process: ProbeChild | None = None
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
        with probed.marker(self._cache, key, self._options.probe_timeout_s + GRACE_S) as marker:
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
        request = request_of(path, self._options)
        for _ in range(2):  # the child process itself may have been ended, by whomever
            process = self._take()
            self.tests += 1
            try:
                answer = process.ask(request)
            finally:
                self._give()
            if answer is not None:
                return verdict(answer, request, clean_errors_count=False)
        raise ModelRejected("the process that was to test-load it has been ended from outside")

    def _take(self) -> ProbeChild:
        with self._lock:
            if self._closed:
                raise ModelRejected("it was not test-loaded: the server is ending")
            if self._process is not None and not self._process.lives():
                self._process.end()
                self._process = None
            if self._process is None:
                self._process = self._starter.submit(ProbeChild).result()
            self._busy += 1
            return self._process

    def _give(self) -> None:
        with self._lock:
            self._busy -= 1
            self._used_s = time.monotonic()
            if self._timer is None and not self._closed:
                self._set_timer()

    def _set_timer(self) -> None:
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
                self._set_timer()
                return
            process, self._process = self._process, None
        process.end()


def inspect_apart(path: Path, options: LifecycleOptions) -> Signature:
    """Give what `fastserve.runtime.inspect` gives, from a child with the limits of a server's test loads.

    Raises
    ------
    ModelRejected, RuntimeMissing
    """
    request = request_of(path, options)
    process = ProbeChild()
    try:
        answer = process.ask(request)
    finally:
        process.end()
    signature = None if answer is None else verdict(answer, request, clean_errors_count=True)
    if signature is None:
        raise ModelRejected("the process that was to test-load it has been ended from outside")
    return signature


def vouch(record: VersionRecord, registry_path: Path) -> None:
    """Remember that a version has passed `inspect_apart`: this user's servers need not test it again."""
    key = probed.fingerprint(record, registry_path, verified=True)
    with probed.marker(probed.own_cache(), key, 0.0) as marker:
        marker.remember()
