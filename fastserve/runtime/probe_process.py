"""The process that test loads happen in: `python -m fastserve.runtime.probe_process FD`.

It has onnxruntime imported, loads no model itself, and forks a child for each one, so that a test load costs
a fork and not the start of an interpreter. A child may crash, hang or eat memory: it has limits, and nobody
but this process notices. In this room because it needs nothing of those above, and starts in half the time.
"""

import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve.errors import FastserveError, ModelFailed, ModelRejected, RuntimeMissing
from fastserve.runtime import OnnxRuntime, Provider, RuntimeOptions, inspect
from fastserve.runtime._ort import built_in
from fastserve.runtime.examples import SIZES, first_that_runs
from fastserve.runtime.libc import prctl

MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 4 * 2**20

_MAX_TEXT = 500
_TRIED_WITH = (
    " (it was tried with a row of zeros and empty strings, where dimensions vary with sizes of "
    f"{', '.join(map(str, SIZES))}: one that must be another has to stand in the file)"
)
_UNKNOWN_CATEGORY = "Unknown Category"
_IGNORE = "; OneHotEncoder(handle_unknown='ignore') makes a graph that answers for those it does not know"
_NICE = 10
_READ_BYTES = 64 * 1024
_REPLY_S = 5.0
_LAST_STANDARD = 2
"""Descriptors 0, 1 and 2 lead to /dev/null."""
_SPARE_CPU_S = 2
"""The clock on the wall decides; this one ends a child whose parent cannot."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

# What onnxruntime, C++ and Python say when an allocation fails.
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate", "out of memory", "cannot allocate")


@dataclass(slots=True)
class _Test:
    """One test load under way."""

    pid: int
    reply: socket.socket
    until_s: float
    report: bytearray = field(default_factory=bytearray)
    expired: bool = False


class _Server:
    """Takes requests from the one socket and answers each on the socket that came with it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._tests: dict[int, _Test] = {}
        """By the descriptor that the child reports on."""

    def run(self) -> None:
        """Serve until whoever started this process is gone, however it went."""
        try:
            while True:
                for key, _ in self._selector.select(self._timeout_s()):
                    if key.fileobj is self._control:
                        if not self._accept():
                            return
                    else:
                        self._hear(key.fd)
                self._expire()
        finally:
            for test in self._tests.values():
                os.kill(test.pid, signal.SIGKILL)

    def _timeout_s(self) -> float | None:
        first = min((test.until_s for test in self._tests.values()), default=None)
        return None if first is None else first - time.monotonic()

    def _accept(self) -> bool:
        """Begin what is asked for next; False when nobody will ask again."""
        message, descriptors, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 1)
        if not message or not descriptors:
            return False
        request = json.loads(message)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(request, write)
        os.close(write)
        until_s = time.monotonic() + request["timeout_s"]
        self._tests[read] = _Test(pid, socket.socket(fileno=descriptors[0]), until_s)
        self._selector.register(read, selectors.EVENT_READ)
        return True

    def _hear(self, descriptor: int) -> None:
        test = self._tests[descriptor]
        chunk = os.read(descriptor, _READ_BYTES)
        test.report += chunk
        if not chunk or len(test.report) > MAX_REPLY_BYTES:
            self._finish(descriptor)

    def _expire(self) -> None:
        now_s = time.monotonic()
        for descriptor in [at for at, test in self._tests.items() if test.until_s <= now_s]:
            self._tests[descriptor].expired = True
            self._finish(descriptor)

    def _finish(self, descriptor: int) -> None:
        test = self._tests.pop(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        # One that is ending by itself keeps the status it ended with.
        os.kill(test.pid, signal.SIGKILL)
        _, status, _ = os.wait4(test.pid, 0)
        report: Any = None
        if len(test.report) <= MAX_REPLY_BYTES:
            with suppress(ValueError, RecursionError):
                report = json.loads(bytes(test.report))
        answer = {"code": os.waitstatus_to_exitcode(status), "expired": test.expired, "report": report}
        with test.reply, suppress(OSError):  # whoever asked may have given up
            test.reply.settimeout(_REPLY_S)
            test.reply.sendall(json.dumps(answer).encode() + b"\n")


def _child(request: dict[str, Any], write: int) -> None:
    """Load one model and report; never comes back."""
    try:
        _confine(write, request["timeout_s"], request["memory_bytes"])
        report = _report(Path(request["path"]))
        pending = memoryview(json.dumps(report).encode())
        while pending:
            pending = pending[os.write(write, pending) :]
    finally:
        # No clean-up: nothing of the process it was forked from may be flushed, closed or run twice.
        os._exit(0 if sys.exc_info()[0] is None else 1)


def _confine(write: int, timeout_s: float, memory_bytes: int) -> None:
    parent = os.getppid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    prctl(_PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The sockets of the tests beside this one: who waits there must learn when this process's parent dies.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > _LAST_STANDARD and int(name) != write:
            with suppress(OSError):  # the listing's own is closed already
                os.close(int(name))
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError):  # before the server is ended for want of memory, this process is
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, int(timeout_s) + _SPARE_CPU_S)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, mapped + memory_bytes)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _report(path: Path) -> dict[str, Any]:
    """Load it as serving would, with one thread and on the CPU, run one row, and free it."""
    try:
        runtime = OnnxRuntime(path, RuntimeOptions(provider=Provider.CPU))
        signature = runtime.signature
        first_that_runs(signature, runtime.run)
        runtime.close()
    except MemoryError:
        return {"memory": True}
    except (ModelRejected, ModelFailed) as error:
        text = _printable(str(error))
        if any(words in text.lower() for words in _OUT_OF_MEMORY):
            return {"memory": True}
        if isinstance(error, ModelFailed):
            advice = _IGNORE if _UNKNOWN_CATEGORY in text else ""
            text = f"{text[: _MAX_TEXT - len(advice + _TRIED_WITH)].rstrip('.')}{advice}{_TRIED_WITH}"
        # Where models run on a GPU, that the CPU cannot says nothing: only a crash would.
        return {"rejected": text, "final": built_in() == [Provider.CPU]}
    except (FastserveError, OSError, ValueError) as error:
        return {"rejected": _printable(str(error)), "final": True}
    return {"signature": signature.described()}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_TEXT]


def main() -> None:
    """Say that all is ready, or what is missing, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # Ctrl-C reaches the whole foreground group; this process ends with the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave no status to wait for
    try:
        built_in()
    except RuntimeMissing:
        control.send(b'{"ready": false}')
        return
    # A failing load sets up what onnxruntime sets up once (3 of 9 ms), and leaves no session behind.
    with suppress(FastserveError):
        inspect(Path(os.devnull))
    control.send(b'{"ready": true}')
    _Server(control).run()


if __name__ == "__main__":
    main()
