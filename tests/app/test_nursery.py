"""Workers forked from a process that has loaded their models, and what becomes of them when it fails."""

import ctypes
import errno
import math
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fastserve.app.nursery import Nursery
from fastserve.app.slot import Slot
from fastserve.registry import Registry
from fastserve.runtime.libc import function
from tests import models
from tests.app.test_supervisor import ASK, ask, ready_everywhere
from tests.processes import alive, children
from tests.registries import publish
from tests.servers import Server, running, started
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are handed on by Linux only")

MIB = 2**20
_GET_CHILD_SUBREAPER = 37
MANY = 40
ONCE = "models are loaded once for all workers"
SHARED = re.compile(r"(\d+) version\(s\) are loaded after")


def settings(load_ahead_s: float = 60.0, **lifecycle: Any) -> dict[str, Any]:
    """Two workers whose sessions have one thread, whatever the machine has."""
    return {
        "server": {"workers": 2, "load_ahead_s": load_ahead_s},
        "runtime": {"intra_op_threads": 1, "warmup_budget_ms": 30},
        "lifecycle": {"probe": False, **lifecycle},
    }


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that takes a second or more to load; nobody writes to it."""
    registry = Registry(tmp_path_factory.mktemp("many") / "registry")
    for each in range(MANY):
        publish(registry, f"m{each:02}", models.mlp(32, 512, 512, 2))
    return registry.path


def scaled(tmp_path: Path) -> Path:
    registry = Registry(tmp_path / "registry")
    publish(registry, "scaled", models.scaled())
    return registry.path


def loading(server: Server) -> int:
    """Wait until models are being loaded; the process that does it."""
    until(lambda: ONCE in server.log.read_text() and len(children(server.process.pid)) == 1)
    return children(server.process.pid)[0]


def index(server: Server) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = server.request("POST", "/v2/repository/index", {}).json()
    return rows


def states(server: Server) -> set[str]:
    return {row["state"] for row in index(server)}


def anonymous_bytes(pid: int) -> int:
    """Memory that a process has for itself: what it shares counts in part."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss_Anon:\s+(\d+) kB$", rollup, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_workers_share_the_memory_of_their_models(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    content = models.mlp(64, 3072, 3072, 2)
    publish(registry, "large", content)
    taken = {}
    for ahead_s in (0.0, 60.0):
        place = tmp_path / f"{ahead_s:g}"
        place.mkdir()
        with running(registry.path, place, settings(ahead_s)) as server:
            ready_everywhere(server)
            taken[ahead_s] = sum(anonymous_bytes(pid) for pid in children(server.process.pid))
    assert len(content) > 35 * MIB
    assert taken[0.0] - taken[60.0] > 0.8 * len(content), taken


def test_the_workers_are_the_supervisors_own(tmp_path: Path) -> None:
    with running(scaled(tmp_path), tmp_path, settings()) as server:
        ready_everywhere(server)
        assert SHARED.findall(server.log.read_text()) == ["1"]
        victim, survivor = children(server.process.pid)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in children(server.process.pid) and len(children(server.process.pid)) == 2)
        assert survivor in children(server.process.pid)
        ready_everywhere(server)
        assert [ask(server) for _ in range(10)] == [200] * 10
        assert SHARED.findall(server.log.read_text()) == ["1"], "one that is replaced loads for itself"


def test_a_process_that_dies_while_it_loads_costs_time_only(many: Path, tmp_path: Path) -> None:
    with started(many, tmp_path, settings()) as server:
        os.kill(loading(server), signal.SIGKILL)
        ready_everywhere(server)
        assert len(children(server.process.pid)) == 2
        assert "failed (code -9); each worker loads its own" in server.log.read_text()
        assert states(server) == {"READY"}


def test_where_there_is_no_room_for_it_each_worker_loads_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> NoReturn:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    descriptors = os.listdir("/proc/self/fd")
    with socket.socket() as listener:
        slot = Slot("worker 0", listener, lambda _slot, _lifeline: None)
        assert Nursery.open([slot], lambda: None, 0.0) is None
    assert "(Resource temporarily unavailable); each loads its own" in caplog.text
    assert os.listdir("/proc/self/fd") == descriptors
    assert not _adopts_orphans()


@pytest.mark.parametrize("end", [Nursery.end, lambda nursery: nursery.done(0.0)], ids=["stop", "too long"])
def test_one_that_does_not_end_when_told_is_killed(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[Nursery], object]
) -> None:
    monkeypatch.setattr("fastserve.app.nursery._KILL_S", 0.2)
    descriptors = os.listdir("/proc/self/fd")
    reads, writes = os.pipe()

    def load() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(writes, b".")
        time.sleep(20)

    with socket.socket() as listener:
        slot = Slot("worker 0", listener, lambda _slot, _lifeline: None)
        nursery = Nursery.open([slot], load, 0.0)
        assert nursery is not None and _adopts_orphans()
        os.read(reads, 1)
        end(nursery)
        assert nursery._process.wait(0.2) and nursery._process.returncode == -signal.SIGKILL
        assert slot.process is None
    os.close(reads)
    os.close(writes)
    assert os.listdir("/proc/self/fd") == descriptors
    assert not _adopts_orphans()


def test_nobody_is_forked_from_a_process_in_which_a_thread_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread would not be in the children, but whatever it had locked would."""
    monkeypatch.setattr("fastserve.app.nursery._ALONE_S", 0.1)

    def load() -> None:
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()

    with socket.socket() as listener:
        slot = Slot("worker 0", listener, lambda _slot, _lifeline: None)
        nursery = Nursery.open([slot], load, math.inf)
        assert nursery is not None
        until(lambda: nursery.done(0.0))
        assert nursery._process.returncode == 0
        assert slot.process is None


def _adopts_orphans() -> bool:
    """Whether this process is told to become the parent of what its descendants leave behind."""
    told = ctypes.c_int(-1)
    assert function("prctl")(_GET_CHILD_SUBREAPER, ctypes.byref(told), 0, 0, 0) == 0
    return bool(told.value)


def test_a_process_that_hangs_while_it_loads_is_given_up(many: Path, tmp_path: Path) -> None:
    slow = settings(0.5, probe_timeout_s=0.5)
    with started(many, tmp_path, slow) as server:
        os.kill(loading(server), signal.SIGSTOP)
        ready_everywhere(server)
        assert "takes too long; each worker loads its own" in server.log.read_text()
        assert states(server) == {"READY"}


def test_what_is_not_loaded_in_time_each_worker_loads_itself(many: Path, tmp_path: Path) -> None:
    with running(many, tmp_path, settings(0.1)) as server:
        ready_everywhere(server)
        (shared,) = SHARED.findall(server.log.read_text())
        assert int(shared) < MANY
        assert states(server) == {"READY"}


def test_one_that_is_replaced_answers_nobody_before_its_models_are_loaded(many: Path, tmp_path: Path) -> None:
    """Whoever comes to it meanwhile waits: the other is not the only one that clients reach."""
    with running(many, tmp_path, settings(0.0)) as server:
        ready_everywhere(server)
        victim = children(server.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in children(server.process.pid) and len(children(server.process.pid)) == 2)
        assert {server.request("GET", "/v2/health/ready").status for _ in range(50)} == {200}


def test_sigterm_while_it_loads_is_an_orderly_end(many: Path, tmp_path: Path) -> None:
    with started(many, tmp_path, settings()) as server:
        process = loading(server)
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert not alive(process)
        assert "Traceback" not in server.log.read_text()
        assert "terminate called" not in server.log.read_text()


def test_nobody_outlives_a_supervisor_that_is_killed_meanwhile(many: Path, tmp_path: Path) -> None:
    with started(many, tmp_path, settings()) as server:
        loading(server)
        port = server.port
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)

        def gone() -> bool:
            with suppress(OSError):
                return not [
                    entry
                    for entry in Path("/proc").iterdir()
                    if entry.name.isdigit() and f"{port}".encode() in (entry / "cmdline").read_bytes()
                ]
            return False

        until(gone)


def test_a_model_that_cannot_be_loaded_is_reported_by_the_workers(tmp_path: Path) -> None:
    registry = scaled(tmp_path)
    version = registry / "broken" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(b"\x08\x07 this is no model")
    os.utime(version / "model.onnx", (1, 1))
    with started(registry, tmp_path, settings(settle_s=0.0)) as server:
        until(lambda: _unavailable(server) == ["broken"])
        assert SHARED.findall(server.log.read_text()) == ["1"]
        assert ask(server) == 200


def _unavailable(server: Server) -> list[str]:
    with suppress(OSError):
        return [row["name"] for row in index(server) if row["state"] == "UNAVAILABLE" and row["reason"]]
    return []


def test_a_version_loaded_ahead_can_be_swapped_away(tmp_path: Path) -> None:
    path = scaled(tmp_path)
    with running(path, tmp_path, settings(versions=1)) as server:
        ready_everywhere(server)
        registry = Registry(path)
        version = publish(registry, "scaled", models.scaled(3.0))

        def answers() -> set[str]:
            asked = [server.request("POST", "/v2/models/scaled/infer", ASK) for _ in range(30)]
            return {answer.json()["model_version"] for answer in asked}

        until(lambda: answers() == {str(version)})
        until(lambda: ("1", "READY") not in {(row["version"], row["state"]) for row in index(server)})
        # Its directory is free for the collector, though each process held it.
        assert [removed.what for removed in registry.gc(1)] == ["1"]
