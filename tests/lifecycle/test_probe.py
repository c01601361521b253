"""Test loads happen in real processes: files that crash, hang or eat memory, and processes that are killed."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from fastserve.errors import ModelRejected, RuntimeMissing
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.probe import Prober, inspect_apart
from fastserve.lifecycle.probe_child import ProbeChild
from fastserve.registry import Registry, VersionRecord
from fastserve.runtime import inspect
from tests import models
from tests.lifecycle.hostile import deep_tree, endless_loop, huge_tensor, wide_table
from tests.processes import alive
from tests.registries import publish
from tests.waiting import until

MAIN = "fastserve.runtime.probe_process"


@pytest.fixture
def prober(tmp_path: Path) -> Iterator[Prober]:
    before = set(threading.enumerate())
    made = make(tmp_path)
    yield made
    made.close()
    until(lambda: set(threading.enumerate()) <= before, 10)  # no workers are forked where a thread stays


def make(tmp_path: Path, idle_s: float = 30.0, **options: object) -> Prober:
    cache_directory = tmp_path / "cache"
    cache_directory.mkdir(exist_ok=True)
    settings = LifecycleOptions.model_validate(options)
    return Prober(tmp_path / "registry", settings, cache=cache_directory, idle_s=idle_s)


def version(tmp_path: Path, data: bytes, model: str = "m", number: int = 1) -> VersionRecord:
    directory = tmp_path / "registry" / model / str(number)
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(data)
    return VersionRecord(model, number, directory / "model.onnx", None)


def test_a_system_without_descriptors_is_a_reason(
    prober: Prober, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = version(tmp_path, models.scaled())

    def socketpair(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socketpair", socketpair)
    for _ in range(2):
        with pytest.raises(ModelRejected, match="can be asked: Too many open files"):
            prober.check(record)
    monkeypatch.undo()
    prober.check(record)


def children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, above = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(above) == parent and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_to_get_ready_while_the_server_ends_is_no_error(prober: Prober) -> None:
    prober.close()
    prober.get_ready()


def test_a_process_that_hangs_itself_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.lifecycle.probe_child.GRACE_S", 0.2)
    prober = make(tmp_path, probe_timeout_s=0.1)
    record = version(tmp_path, models.scaled())
    before = set(children(os.getpid()))
    prober.get_ready()
    (process,) = set(children(os.getpid())) - before
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(ModelRejected, match=r"longer than 0.1 s \(lifecycle.probe_timeout_s\)"):
        prober.check(record)
    until(lambda: not alive(process), 20)  # what waits next has another one
    prober.close()


def zygotes_of(parent: int) -> list[int]:
    found = []
    for pid in children(parent):
        try:
            if MAIN.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.fixture
def zygotes() -> Callable[[], list[int]]:
    """Those of this test: workers that other tests keep in this process for a while have their own."""
    before = set(zygotes_of(os.getpid()))
    return lambda: [pid for pid in zygotes_of(os.getpid()) if pid not in before]


def ignores_ctrl_c(pid: int) -> bool:
    """It reaches all processes of the terminal's foreground, and one of them alone decides what ends."""
    (mask,) = re.findall(r"^SigIgn:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_models_that_load_pass(tmp_path: Path, prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('of the directory that the command is called in')")
    monkeypatch.chdir(tmp_path)
    good = models.scaled(), models.fixed_batch(), models.variable_inner(), models.identity(8, None, 2)
    for number, data in enumerate(good, 1):
        prober.check(version(tmp_path, data, number=number))
        assert prober.tests == number


def test_what_passed_is_not_tested_again(
    tmp_path: Path, prober: Prober, zygotes: Callable[[], list[int]]
) -> None:
    record = version(tmp_path, models.scaled())
    assert not prober.passed(record)
    prober.check(record)
    prober.check(record)
    assert prober.tests == 1
    again = make(tmp_path)
    assert again.passed(record)
    again.check(record)
    assert again.tests == 0
    assert len(zygotes()) == 1, "nothing is started where nothing is to be tested"
    record.path.write_bytes(b"broken now")
    with pytest.raises(ModelRejected):
        again.check(record)
    again.close()


def test_a_published_version_is_known_by_its_checksums(tmp_path: Path, prober: Prober) -> None:
    registry = Registry(tmp_path / "registry")
    for name, factor, tests in (("a", 2.0, 1), ("b", 2.0, 1), ("c", 3.0, 2)):
        publish(registry, name, models.scaled(factor))
        prober.check(registry.describe(name, 1))
        assert prober.tests == tests
    unverified = make(tmp_path, verify=False)
    unverified.check(registry.describe("a", 1))
    assert unverified.tests == 1, "nobody compared the files with the manifest"
    unverified.close()


def test_failures_are_not_remembered(tmp_path: Path, prober: Prober) -> None:
    record = version(tmp_path, b"not a model")
    for tests in (1, 2):
        with pytest.raises(
            ModelRejected, match=r"^onnxruntime cannot load the model: Protobuf parsing failed"
        ):
            prober.check(record)
        assert prober.tests == tests
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_that_crash_a_process_or_eat_memory(tmp_path: Path, prober: Prober) -> None:
    with pytest.raises(ModelRejected, match=r"^loading it crashed a test process \(signal 11\)$"):
        prober.check(version(tmp_path, deep_tree()))
    with pytest.raises(
        ModelRejected,
        match=r"^loading it needed more memory than 1,024 MiB \(lifecycle\.probe_memory_bytes\)$",
    ):
        prober.check(version(tmp_path, huge_tensor(), number=2))
    prober.check(version(tmp_path, models.scaled(), number=3))
    assert prober.tests == 3


def test_the_memory_limit_is_on_top_of_what_a_process_has(tmp_path: Path) -> None:
    prober = make(tmp_path, probe_memory_bytes=32 * 2**20)
    prober.check(version(tmp_path, models.scaled()))
    with pytest.raises(
        ModelRejected, match=r"^loading it needed more memory than 32 MiB \(lifecycle\.probe_memory_bytes\)$"
    ):
        prober.check(version(tmp_path, models.mlp(2048, 2048, 2048, 2048), number=2))
    prober.close()


def test_a_file_that_hangs_does_not_keep_others_waiting(tmp_path: Path) -> None:
    prober = make(tmp_path, probe_timeout_s=1.2)
    hanging, good = version(tmp_path, endless_loop()), version(tmp_path, models.scaled(), number=2)
    thread, errors = in_thread(lambda: prober.check(hanging))
    until(lambda: prober.tests == 1)
    prober.check(good)
    assert thread.is_alive()
    thread.join()
    assert [str(error) for error in errors] == [
        "loading it took longer than 1.2 s (lifecycle.probe_timeout_s)"
    ]
    prober.close()


def test_two_threads_test_one_version_once(tmp_path: Path, prober: Prober) -> None:
    record = version(tmp_path, models.mlp(256, 512, 512, 10))
    pairs = [in_thread(lambda: prober.check(record)) for _ in range(4)]
    for thread, _ in pairs:
        thread.join()
    assert [errors for _, errors in pairs] == [[]] * 4
    assert prober.tests == 1


def test_two_workers_do_not_test_one_version_at_a_time(tmp_path: Path, prober: Prober) -> None:
    """Each worker has a prober of its own; what they share are the markers."""
    other = make(tmp_path)
    record = version(tmp_path, models.mlp(256, 512, 512, 10))
    pairs = [in_thread(lambda p=p: p.check(record)) for p in (prober, other)]  # type: ignore[misc]
    for thread, errors in pairs:
        thread.join()
        assert errors == []
    assert prober.tests + other.tests == 1
    other.close()


def test_without_a_place_for_markers_memory_serves(tmp_path: Path) -> None:
    prober = Prober(tmp_path / "registry", LifecycleOptions(), cache=tmp_path / "gone")
    record = version(tmp_path, models.scaled())
    prober.check(record)
    prober.check(record)
    assert prober.tests == 1
    prober.close()


def test_a_killed_process_is_replaced(
    tmp_path: Path, prober: Prober, zygotes: Callable[[], list[int]]
) -> None:
    prober.check(version(tmp_path, models.scaled(1.0)))
    (first,) = zygotes()
    os.kill(first, signal.SIGKILL)
    prober.check(version(tmp_path, models.scaled(2.0), number=2))
    (second,) = zygotes()
    assert second != first


def test_a_process_starts_as_fast_as_any_though_a_polite_thread_asks_for_it(
    tmp_path: Path, prober: Prober, zygotes: Callable[[], list[int]]
) -> None:
    def check() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 1)
        prober.check(version(tmp_path, models.scaled()))

    thread, errors = in_thread(check)
    thread.join()
    assert errors == []
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in zygotes()] == [os.getpriority(os.PRIO_PROCESS, 0)]


def test_a_test_load_is_repeated_when_the_process_dies_under_it(
    tmp_path: Path, zygotes: Callable[[], list[int]]
) -> None:
    prober = make(tmp_path, probe_timeout_s=1.0)
    thread, errors = in_thread(lambda: prober.check(version(tmp_path, endless_loop())))
    until(lambda: zygotes() and children(zygotes()[0]))
    (zygote,) = zygotes()
    (loading,) = children(zygote)
    os.kill(zygote, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{loading}").exists())
    thread.join()
    assert [str(error) for error in errors] == ["loading it took longer than 1 s (lifecycle.probe_timeout_s)"]
    assert prober.tests == 2
    prober.close()


def test_a_test_load_that_is_killed_and_one_that_closing_ends(
    tmp_path: Path, prober: Prober, zygotes: Callable[[], list[int]]
) -> None:
    record = version(tmp_path, endless_loop())
    thread, errors = in_thread(lambda: prober.check(record))
    until(lambda: zygotes() and children(zygotes()[0]))
    (loading,) = children(zygotes()[0])
    file = Path(f"/proc/{loading}/limits")
    until(lambda: re.search(r"Max core file size +0 +0 ", file.read_text()))
    until(lambda: not re.search(r"Max (address space|cpu time) +unlimited", file.read_text()))
    assert os.getpriority(os.PRIO_PROCESS, loading) >= 10, "it leaves the cores to whoever answers"
    assert Path(f"/proc/{loading}/oom_score_adj").read_text() == "1000\n"
    links = Path(f"/proc/{loading}/fd")  # of the model too while it is read, but not of others' sockets
    until(lambda: sorted(link.resolve().name[:5] for link in links.iterdir()) == [*["null"] * 3, "pipe:"], 10)
    assert [ignores_ctrl_c(pid) for pid in (*zygotes(), loading)] == [True, False]
    os.kill(loading, signal.SIGKILL)
    thread.join()
    assert ["killed (signal 9)" in str(error) for error in errors] == [True]

    thread, errors = in_thread(lambda: prober.check(record))
    until(lambda: children(zygotes()[0]))
    (loading,) = children(zygotes()[0])
    prober.close()
    thread.join(5)
    assert isinstance(errors[0], ModelRejected)
    assert "the server is ending" in str(errors[0])
    until(lambda: not Path(f"/proc/{loading}").exists())
    assert zygotes() == []


def test_an_idle_process_is_ended_and_started_anew(tmp_path: Path, zygotes: Callable[[], list[int]]) -> None:
    prober = make(tmp_path, idle_s=0.3, probe_timeout_s=1.0)
    prober.get_ready()
    for number in (1, 2):  # the second one while the time of the first runs
        prober.check(version(tmp_path, models.scaled(number), number=number))
    until(lambda: not zygotes(), 10)
    prober.check(version(tmp_path, models.scaled(3.0), number=3))
    with pytest.raises(ModelRejected, match="longer than 1 s"):
        prober.check(version(tmp_path, endless_loop(), number=4))
    assert prober.tests == 4, "one that is at work is not idle"
    prober.close()


def test_no_process_outlives_the_server(tmp_path: Path) -> None:
    record = version(tmp_path, endless_loop())
    script = (
        "import sys, pathlib\n"
        "from fastserve.lifecycle.options import LifecycleOptions\n"
        "from fastserve.lifecycle.probe import Prober\n"
        "from fastserve.registry import VersionRecord\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "Prober(path, LifecycleOptions(), cache=path).check(VersionRecord('m', 1, pathlib.Path(sys.argv[2]), None))\n"
    )
    server = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(record.path)])
    try:
        until(lambda: zygotes_of(server.pid) and children(zygotes_of(server.pid)[0]))
        (zygote,) = zygotes_of(server.pid)
        (loading,) = children(zygote)
    finally:
        server.kill()
        server.wait()
    until(lambda: not Path(f"/proc/{loading}").exists() and not alive(zygote))


def test_what_only_a_gpu_can_run_is_left_to_the_load_itself(
    tmp_path: Path, prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test loads are on the CPU: a crash there says something of the file, an error does not."""
    record = version(tmp_path, models.scaled())
    answer = {"code": 0, "expired": False, "report": {"rejected": "no kernel", "final": False}}
    monkeypatch.setattr(ProbeChild, "ask", lambda _self, _request: answer)
    prober.check(record)
    assert not prober.passed(record)
    with pytest.raises(ModelRejected, match="no kernel"):  # who publishes has nothing else to go by
        inspect_apart(record.path, LifecycleOptions())


def test_inspect_apart_gives_what_inspect_gives(tmp_path: Path) -> None:
    for number, data in enumerate((models.identity(8, None, "len", 2), wide_table()), 1):
        path = version(tmp_path, data, number=number).path
        assert inspect_apart(path, LifecycleOptions()) == inspect(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (deep_tree, r"crashed a test process \(signal 11\)"),
        (models.sequence_output, "which is not a tensor"),
    ],
)
def test_inspect_apart_survives_what_it_looks_at(
    tmp_path: Path, data: Callable[[], bytes], words: str, zygotes: Callable[[], list[int]]
) -> None:
    with pytest.raises(ModelRejected, match=words):
        inspect_apart(version(tmp_path, data()).path, LifecycleOptions())
    assert zygotes() == []


def test_no_runtime_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeMissing):
        inspect_apart(version(tmp_path, models.scaled()).path, LifecycleOptions())
