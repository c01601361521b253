"""Faults around the control plane, with real processes: serving goes on, and every count arrives once."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fastserve.registry import Registry
from tests import models
from tests.app.watched import Load, Watched, assert_quiet, bodies, catch_up, send_all, watching
from tests.controlplane.conftest import Cluster, cluster  # noqa: F401 - a fixture
from tests.processes import alive, children
from tests.registries import publish
from tests.servers import free_port, running
from tests.waiting import until

TOKEN = "a token of this test, long enough"


def assert_counted(watched: Watched, requests: int) -> None:
    catch_up(watched)
    assert watched.answered() == requests
    for phase in ("queue", "compute", "total"):
        name = "fastserve_request_duration_seconds_count"
        assert watched.metric(name, model="scaled", phase=phase) == requests
    assert watched.metric("fastserve_rows_watched_total", model="scaled") == requests
    report = watched.report()
    assert report.rows == requests
    assert all(one.live.rows == requests for one in report.features)


def health(watched: Watched) -> str:
    """Why the control plane's database is not available; `ok` when it is."""
    try:
        return str(json.loads(watched.get("/v2/control/health"))["database"])
    except urllib.error.HTTPError as error:
        with error:
            return str(json.loads(error.read())["database"])


def stop_after(load: Load, requests: int) -> None:
    """End a load once it has had so many more answers."""
    enough = load.answered + requests
    until(lambda: load.answered >= enough)
    load.stop()
    assert not load.failed


def test_a_locked_database(registry: Registry, tmp_path: Path) -> None:
    with watching(registry, tmp_path) as watched:
        load = Load(watched.server)
        until(lambda: watched.answered() > 0)
        other = sqlite3.connect(tmp_path / "control.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        before, answered = watched.answered(), load.answered
        time.sleep(3)
        assert watched.answered() == before > 0, "the page is there, with what was committed"
        assert load.answered > answered, "no request waits for the database"
        other.execute("ROLLBACK")
        other.close()
        stop_after(load, 20)
        assert_counted(watched, load.answered)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def test_a_full_disk(registry: Registry, tmp_path: Path, small_disk: Path) -> None:
    with watching(registry, tmp_path, database=f"sqlite:///{small_disk}/control.db") as watched:
        load = Load(watched.server)
        until(lambda: watched.answered() > 0)
        fill(small_disk / "ballast")
        until(lambda: "full" in health(watched) or "disk I/O" in health(watched))
        before = load.answered
        until(lambda: load.answered >= before + 50)
        assert watched.answered() > 0, "the page is there, with what was committed"
        (small_disk / "ballast").unlink()
        until(lambda: health(watched) == "ok")
        stop_after(load, 20)
        assert_counted(watched, load.answered)


def test_postgresql_restarted(registry: Registry, tmp_path: Path, cluster: Cluster) -> None:  # noqa: F811
    with watching(registry, tmp_path, database=cluster.new_database()) as watched:
        load = Load(watched.server)
        until(lambda: watched.answered() > 0)
        cluster.stop()
        try:
            until(lambda: health(watched) != "ok")
            answered = load.answered
            until(lambda: load.answered >= answered + 20)
            assert watched.answered() > 0, "the page is there, with what was committed"
        finally:
            cluster.start()
        until(lambda: health(watched) == "ok")
        stop_after(load, 20)
        assert_counted(watched, load.answered)


class Stranger:
    """An HTTP server where the control plane should be: gives every snapshot the same answer."""

    def __init__(self, port: int, status: int, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def control_alone(registry: Registry, tmp: Path, port: int) -> Iterator[None]:
    """`fastserve control` on a port."""
    command = [sys.executable, "-m", "fastserve.cli", "control", "--registry", str(registry.path)]
    command += ["--control-port", str(port), "--database", f"sqlite:///{tmp}/alone.db"]
    log = tmp / "control.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env={**os.environ, "FASTSERVE_CONTROL__TOKEN": TOKEN}
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return bool(answer.status == 200)
    return False


def test_one_alone_that_is_started_by_who_keeps_sigterm_back_ends_at_one(
    registry: Registry, tmp_path: Path
) -> None:
    port = free_port()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    with contextlib.ExitStack() as opened:
        try:
            opened.enter_context(control_alone(registry, tmp_path, port))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        until(lambda: answers(port))


@contextlib.contextmanager
def sending(registry: Registry, tmp: Path, port: int, token: str = TOKEN) -> Iterator[Watched]:
    """Run a server that sends its statistics to a control plane elsewhere."""
    monitoring = {
        "interval_s": 0.1,
        "control_url": f"http://127.0.0.1:{port}",
        "control_token": token,
    }
    with running(registry.path, tmp, {"monitoring": monitoring}) as server:
        yield Watched(server, port)
    assert_quiet(server)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (409, b'{"error": "the snapshot has format 1, this reads format 2"}', "this reads format 2"),
        (500, b"<html>", "status 500"),
        (200, b"<html>welcome</html>", "no control plane"),
        (200, b'{"number": 0}', "no control plane"),
    ],
    ids=["another format", "broken", "another site", "another number"],
)
def test_what_cannot_take_a_snapshot_costs_none(
    registry: Registry, tmp_path: Path, status: int, body: bytes, said: str
) -> None:
    port = free_port()
    stranger = Stranger(port, status, body)
    with sending(registry, tmp_path, port) as watched:
        try:
            send_all(watched.server, bodies(20))
            until(lambda: said in watched.server.log.read_text())
            send_all(watched.server, bodies(20))
        finally:
            stranger.stop()
        with control_alone(registry, tmp_path, port):
            until(lambda: watched.answered() == 40)
            assert_counted(watched, 40)
        log = watched.server.log.read_text()
        assert log.count(said) == 1
        assert log.count("takes statistics again") == 1


def test_a_wrong_token(registry: Registry, tmp_path: Path) -> None:
    port = free_port()
    with control_alone(registry, tmp_path, port), sending(registry, tmp_path, port, "wrong") as watched:
        send_all(watched.server, bodies(20))
        until(lambda: "does not take statistics" in watched.server.log.read_text())
        send_all(watched.server, bodies(20))
        line = re.search(r"the control plane does not take statistics: (.*)", watched.server.log.read_text())
        assert line is not None
        assert "token" in line[1]
        until(lambda: watched.metric("fastserve_build_info") == 1)
        assert watched.answered() == 0
        assert watched.metric("fastserve_workers") == 0


@pytest.mark.slow
def test_a_stopped_control_plane(registry: Registry, tmp_path: Path) -> None:
    with watching(registry, tmp_path) as watched:
        load = Load(watched.server)
        until(lambda: watched.answered() > 0)
        control = watched.control_pid()
        os.kill(control, signal.SIGSTOP)
        try:
            time.sleep(5.5)  # longer than the worker waits for an answer: it sends the snapshot again
            before = load.answered
            until(lambda: load.answered >= before + 20)
        finally:
            os.kill(control, signal.SIGCONT)
        stop_after(load, 20)
        assert_counted(watched, load.answered)


@pytest.mark.slow
def test_a_server_ends_while_its_control_plane_is_stopped(registry: Registry, tmp_path: Path) -> None:
    with watching(registry, tmp_path) as watched:
        send_all(watched.server, bodies(5))
        os.kill(control := watched.control_pid(), signal.SIGSTOP)
        send_all(watched.server, bodies(5))
    assert watched.server.process.returncode == 0
    assert not alive(control)


def test_a_worker_ended_under_load_tells_its_last_counts(registry: Registry, tmp_path: Path) -> None:
    with watching(registry, tmp_path) as watched:
        load = Load(watched.server)
        until(lambda: watched.answered() > 20)
        control = watched.control_pid()
        (worker,) = set(children(watched.server.process.pid)) - {control}
        os.kill(worker, signal.SIGTERM)
        until(lambda: worker not in children(watched.server.process.pid))
        answered = load.answered
        until(lambda: load.answered >= answered + 20)
        load.stop()
        catch_up(watched)
        # A connection that was closed unanswered may have been counted, one that was answered has been.
        assert load.answered <= watched.answered() <= load.answered + len(load.failed)
        assert watched.report().rows == watched.answered()


def test_whom_a_server_gives_up_at_its_end_is_counted(registry: Registry, tmp_path: Path) -> None:
    (body,) = bodies(1)
    settings = {
        "server": {"drain_s": 1, "control_port": free_port()},
        "batching": {"max_queue_delay_us": 10**7},
    }
    database = {"control": {"database": f"sqlite:///{tmp_path}/control.db"}}
    with (
        running(registry.path, tmp_path, settings | database) as server,
        contextlib.ExitStack() as connections,
    ):
        for path in ("infer", "infer?ordinary"):
            head = f"POST /v2/models/scaled/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connections.enter_context(server.connect()).sendall(head.encode() + body)
        time.sleep(0.5)
        server.process.terminate()
        assert server.process.wait(20) == 0
    with watching(registry, tmp_path) as watched:
        assert watched.metric("fastserve_requests_total", model="scaled", code="503") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_every_process_gets_at_once_loses_no_count(
    registry: Registry, tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    settings = {
        "server": {"workers": 2, "control_port": port},
        "monitoring": {"interval_s": 60.0},  # all that is counted is left for the end
        "control": {"database": f"sqlite:///{tmp_path}/control.db"},
    }
    with running(registry.path, tmp_path, settings) as server:
        until(lambda: answers(port))
        send_all(server, bodies(20))
        pids = [*children(server.process.pid), server.process.pid]
        for _ in range(3):  # as some send it again
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.1)
        assert server.process.wait(20) == 0
    assert_quiet(server)
    with watching(registry, tmp_path) as watched:
        assert_counted(watched, 20)


def test_a_file_whose_name_is_not_utf_8_spoils_its_own_version_only(
    registry: Registry, tmp_path: Path
) -> None:
    elsewhere = Registry(tmp_path / "elsewhere")
    for _ in range(2):
        version = publish(elsewhere, "scaled", models.scaled())
    directory = elsewhere.path / "scaled" / str(version)
    # The error that says why it is refused has the name in it.
    os.symlink(os.fsencode(tmp_path / "elsewhere"), os.fsencode(directory) + b"/\xff.bin")
    with watching(registry, tmp_path) as watched:
        directory.rename(registry.path / "scaled" / str(version))
        name = "fastserve_model_state"
        until(lambda: watched.metric(name, version="2", state="UNAVAILABLE") == 1)
        send_all(watched.server, bodies(10))
        assert_counted(watched, 10)
