"""Real supervisor and worker processes: shared load, replacement, orderly and disorderly ends."""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fastserve.app.supervisor import Sign, _own_directory
from fastserve.errors import ConfigError
from fastserve.lifecycle import LifecycleOptions
from fastserve.lifecycle.probe import inspect_apart
from fastserve.registry import Registry
from tests import models
from tests.processes import alive, children, rss_bytes
from tests.registries import publish
from tests.servers import Server, drain, free_port, running, started, wait_until_up
from tests.waiting import until

ASK = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    registry = Registry(tmp_path / "registry")
    publish(registry, "scaled", models.scaled())
    return registry.path


@pytest.fixture
def pair(registry: Path, tmp_path: Path) -> Iterator[Server]:
    with running(registry, tmp_path, {"server": {"workers": 2}}) as server:
        until(lambda: len(children(server.process.pid)) == 2)
        yield server


def ask(server: Server) -> int:
    return server.request("POST", "/v2/models/scaled/infer", ASK).status


def refused(server: Server) -> bool:
    """Whether nobody listens any more."""
    with contextlib.suppress(OSError):  # accepted by the kernel, by nobody else
        try:
            server.connect().close()
        except ConnectionRefusedError:
            return True
    return False


def ready_everywhere(server: Server) -> None:
    """New connections land on either worker, so many good answers in a row mean both are ready."""
    good = 0

    def all_good() -> bool:
        nonlocal good
        with contextlib.suppress(OSError):
            good = good + 1 if server.request("GET", "/v2/health/ready").status == 200 else 0
            return good >= 30
        good = 0
        return False

    until(all_good)


def test_a_killed_worker_is_replaced_and_the_other_goes_on(pair: Server) -> None:
    ready_everywhere(pair)
    victim, survivor = children(pair.process.pid)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(children(pair.process.pid)) == 2 and victim not in children(pair.process.pid))
    assert survivor in children(pair.process.pid)
    ready_everywhere(pair)
    assert [ask(pair) for _ in range(20)] == [200] * 20
    assert "starting it again" in pair.log.read_text()


def test_processes_may_have_as_many_descriptors_as_the_system_allows(registry: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with running(registry, tmp_path, {"server": {"workers": 2}}) as server:
            for pid in (server.process.pid, *children(server.process.pid)):
                assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == min(before[1], 2**20)
            # The one that starts the others again is the last to go when memory runs out.
            adjusted = [
                int(Path(f"/proc/{pid}/oom_score_adj").read_text())
                for pid in (server.process.pid, *children(server.process.pid))
            ]
            # A nursery has done so before.
            assert all(adjusted[0] < one <= adjusted[0] + 600 for one in adjusted[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_sigterm_under_load_answers_everything_in_flight(pair: Server) -> None:
    ready_everywhere(pair)
    failures: list[str] = []
    answers = 0
    stop = threading.Event()

    def client() -> None:
        nonlocal answers
        while not stop.is_set():
            try:
                status = ask(pair)
            except (ConnectionRefusedError, BrokenPipeError):
                return  # nothing was accepted, or the idle connection ended before the request was sent
            except OSError as error:
                failures.append(repr(error))
                return
            answers += 1
            if status != 200:
                failures.append(str(status))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: answers > 100)
    workers = children(pair.process.pid)
    pair.process.terminate()
    assert pair.process.wait(40) == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert not any(alive(worker) for worker in workers)
    # A connection that was accepted but had sent nothing yet may be reset when its listener closes.
    assert [failure for failure in failures if "reset" not in failure.lower()] == []


def test_a_server_started_by_who_ignores_the_end_of_children_asks_for_that_of_its_own(
    registry: Path, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as opened:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            inspect_apart(registry / "scaled" / "1" / "model.onnx", LifecycleOptions())
            server = opened.enter_context(started(registry, tmp_path, {"server": {"workers": 2}}))
        finally:
            signal.signal(signal.SIGCHLD, before)
        wait_until_up(server, ready=True)
        until(lambda: len(children(server.process.pid)) == 2)
        victim, _ = children(server.process.pid)
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(children(server.process.pid)) - {victim}) == 2)


def test_a_server_started_by_who_keeps_sigterm_back_ends_at_one(registry: Path, tmp_path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    with contextlib.ExitStack() as opened:
        try:
            server = opened.enter_context(started(registry, tmp_path))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        wait_until_up(server, ready=True)
        server.process.terminate()
        assert server.process.wait(20) == 0


def test_children_that_it_has_not_started_are_buried(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell that it takes the place of leaves it some; the first process of a container gets everybody's."""
    shell = tmp_path / "python"
    shell.write_text(f'#!/bin/sh\nsleep 0.1 &\nexec {sys.executable} "$@"\n')
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    with running(registry, tmp_path, {"server": {"workers": 2}}) as server:
        until(lambda: len(children(server.process.pid)) == 2)


@pytest.mark.parametrize("load_ahead_s", [0, 60])
def test_workers_do_not_outlive_a_killed_supervisor(
    registry: Path, tmp_path: Path, load_ahead_s: float
) -> None:
    """None of them waits for another, whichever process they were forked from."""
    settings = {"server": {"workers": 2, "load_ahead_s": load_ahead_s}, "runtime": {"intra_op_threads": 1}}
    with running(registry, tmp_path, settings) as server:
        until(lambda: len(children(server.process.pid)) == 2)
        elder, younger = children(server.process.pid)
        os.kill(younger, signal.SIGSTOP)
        try:
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(10)
            until(lambda: not alive(elder))
        finally:
            os.kill(younger, signal.SIGCONT)
        until(lambda: not alive(younger))
        assert server.log.read_text().count("the supervisor is gone") == 2, "each says it once"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where servers make their directories; not in `tmp_path`, which may be too long for sockets."""
    with TemporaryDirectory() as path:
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


@pytest.mark.parametrize("control", [False, True])
def test_a_killed_supervisor_leaves_no_directory_behind(
    registry: Path, tmp_path: Path, place: Path, control: bool
) -> None:
    server = {"workers": 2, "load_ahead_s": 0, "control_port": free_port() if control else 0}
    with started(registry, tmp_path, {"server": server}) as killed:
        until(lambda: len(children(killed.process.pid)) >= 2)
        assert len(list(place.iterdir())) == control
        os.kill(killed.process.pid, signal.SIGKILL)
        until(lambda: not list(place.iterdir()))


def test_a_control_plane_that_ends_after_all_others_leaves_no_directory_behind(
    registry: Path, tmp_path: Path, place: Path
) -> None:
    with running(registry, tmp_path, {"server": {"workers": 2, "control_port": free_port()}}) as killed:
        until(lambda: list(place.rglob("statistics.sock")))
        *workers, control = children(killed.process.pid)
        os.kill(control, signal.SIGSTOP)
        os.kill(killed.process.pid, signal.SIGKILL)
        try:
            until(lambda: not any(alive(worker) for worker in workers))
        finally:
            os.kill(control, signal.SIGCONT)
        until(lambda: not list(place.iterdir()))


def test_ctrl_c_reaches_the_supervisor_alone(pair: Server) -> None:
    """A terminal sends it to the whole group; the supervisor says in which order the others stop."""
    group = os.getpgid(pair.process.pid)
    assert group not in [os.getpgid(worker) for worker in children(pair.process.pid)]
    pair.process.send_signal(signal.SIGINT)
    assert pair.process.wait(20) == 0
    assert "Traceback" not in pair.log.read_text()


def test_memory_of_large_bodies_goes_back(registry: Path, tmp_path: Path) -> None:
    """Chunked: as pieces, they lie in the C library's heap, which keeps what is freed."""
    rows, width = 2_000, 3_000
    size = 4 * rows * width
    publish(Registry(registry), "wide", models.scaled(2.0, width))
    tensor = {
        "name": "x",
        "shape": [rows, width],
        "datatype": "FP32",
        "parameters": {"binary_data_size": size},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    body = head.encode() + bytes(size)
    with running(registry, tmp_path, {"server": {"workers": 1}}) as server:
        before = rss_bytes(server.process.pid)
        threads = [threading.Thread(target=ask_in_chunks, args=(server, body, len(head))) for _ in range(4)]
        for thread in threads:
            thread.start()
        most = before
        while any(thread.is_alive() for thread in threads):
            most = max(most, rss_bytes(server.process.pid))
            time.sleep(0.05)
        assert most > before + 4 * size
        until(lambda: rss_bytes(server.process.pid) < before + 32 * 2**20, 40.0)


def ask_in_chunks(server: Server, body: bytes, json_bytes: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        headers = {"Inference-Header-Content-Length": str(json_bytes)}
        connection.request("POST", "/v2/models/wide/infer", pieces, headers, encode_chunked=True)
        assert connection.getresponse().status == 200


def test_one_worker_stops_in_order_too(registry: Path, tmp_path: Path) -> None:
    with running(registry, tmp_path) as server:
        assert ask(server) == 200
        server.process.terminate()
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_in_the_middle_of_loading_is_an_orderly_end(tmp_path: Path, workers: int) -> None:
    # Two workers that were forked from a process which loads: tests/app/test_nursery.py.
    registry = Registry(tmp_path / "registry")
    for number in range(60):
        publish(registry, f"m{number}", models.mlp(32, 512, 512, 2))
    settings = {"server": {"workers": workers, "load_ahead_s": 0}, "lifecycle": {"probe": False}}
    with running(registry.path, tmp_path, settings, ready=False) as server:
        assert server.request("GET", "/v2/health/ready").status == 503
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert "terminate called" not in server.log.read_text()


def test_a_request_half_sent_at_sigterm_is_answered_and_nobody_else_gets_in(pair: Server) -> None:
    ready_everywhere(pair)
    body = json.dumps(ASK).encode()
    head = f"POST /v2/models/scaled/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with pair.connect() as raw:
        raw.sendall(head + body[:10])
        time.sleep(0.2)
        pair.process.terminate()
        until(lambda: refused(pair), 5.0)
        raw.sendall(body[10:])
        answer = drain(raw)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower(), "all other connections are gone by now"
    assert pair.process.wait(20) == 0


def test_requests_on_their_way_at_sigterm_are_answered_as_the_last_of_their_connections(
    registry: Path, tmp_path: Path
) -> None:
    body = json.dumps(ASK).encode()
    paths = ["v2/models/scaled/infer", "v2/models/scaled/infer?ordinary"]
    heads = [f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n" for path in paths]
    with running(registry, tmp_path) as server, contextlib.ExitStack() as connections:
        used, unused = [[connections.enter_context(server.connect()) for _ in heads] for _ in range(2)]
        for raw in used:
            raw.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
        server.process.terminate()
        until(lambda: refused(server), 5.0)
        for raw, head in zip(used, heads, strict=True):
            raw.sendall(head.encode() + body)
        answers = [drain(raw) for raw in used]
        assert [drain(raw) for raw in unused] == [b"", b""]
        assert server.process.wait(20) == 0
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()


def test_what_is_not_served_is_said_at_the_start(registry: Path, tmp_path: Path) -> None:
    for number in range(30):
        shutil.copytree(registry / "scaled" / "1", registry / "scaled" / f"0{number}")
    with running(registry, tmp_path, ready=False) as server:
        until(lambda: "ready: " in server.log.read_text())
        log = server.log.read_text()
    assert log.count("without leading zeros") == 20
    assert "and 10 more, which `fastserve models verify` names" in log


def test_who_is_not_answered_when_the_server_waits_no_longer_may_try_elsewhere(
    registry: Path, tmp_path: Path
) -> None:
    settings = {"server": {"drain_s": 1}, "batching": {"max_queue_delay_us": 10_000_000}}
    paths = ["v2/models/scaled/infer", "v2/models/scaled/infer?ordinary", "v1/models/scaled:predict"]
    body = json.dumps(ASK)
    columns = json.dumps({"inputs": {"x": [[1.0, 2.0, 3.0]]}})
    with running(registry, tmp_path, settings) as server, contextlib.ExitStack() as connections:
        asked = []
        for path in paths:
            sent = columns if path.startswith("v1") else body
            raw = connections.enter_context(server.connect(30))
            head = f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n"
            raw.sendall((head + sent).encode())
            asked.append(raw)
        time.sleep(0.5)
        server.process.terminate()
        answers = [drain(raw) for raw in asked]
        assert server.process.wait(20) == 0
        log = server.log.read_text()
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 503 "), answer
        assert b"\r\nretry-after: 1\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
            "error": "model 'scaled' version '1' is not ready: it is being unloaded"
        }
    assert "Traceback" not in log


def test_signs_of_children_are_counted_once() -> None:
    sign = Sign()
    assert sign.given == 0
    for _ in range(3):
        sign.give()
    assert [sign.given, sign.given] == [3, 3]
    sign.give()
    assert sign.given == 4


def test_a_machine_without_a_place_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(ConfigError, match=r"No such file or directory\): set TMPDIR to a directory"):
        _own_directory()
    monkeypatch.setattr("tempfile.tempdir", f"/{'n' * 72}")
    with pytest.raises(ConfigError, match="too long for sockets: set TMPDIR to a shorter one"):
        _own_directory()
