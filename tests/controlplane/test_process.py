"""The process lives and dies: killed under a sender, stopped, orphaned, started twice."""

import contextlib
import os
import signal
import socket
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest

from fastserve.controlplane.database import only_one
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.process import _unix_listener, database_url
from fastserve.errors import ConfigError
from fastserve.monitoring.snapshot import VersionNow
from tests.controlplane.processes import START_S, ControlProcess, control_process
from tests.controlplane.snapshots import delta, normal, profile, snapshot
from tests.waiting import until

REFERENCE = profile()


class Worker:
    """Sends numbered snapshots of one row each, every one until it is acknowledged."""

    def __init__(self, control: ControlProcess, incarnation: int) -> None:
        self.control = control
        self.acknowledged = 0
        self.stopping = False
        self._incarnation = incarnation
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self.stopping = True
        self._thread.join()

    def _run(self) -> None:
        link = self.control.link()
        while not self.stopping:
            one = snapshot(
                self.acknowledged + 1,
                [delta(REFERENCE, normal(1))],
                incarnation=self._incarnation,
                worker=self._incarnation,
                to_ms=time.time_ns() // 1_000_000,
                profiles=(REFERENCE,),
            ).to_bytes()
            try:
                status, _ = link.post(one)
            except OSError:
                time.sleep(0.01)
                continue
            if status == 200:
                self.acknowledged += 1
        link.close()


def test_killed_under_its_senders(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, nothing is counted twice, however often it is killed."""
    control = ControlProcess(tmp_path, {})
    control.wait_ready()
    workers = [Worker(control, number) for number in (1, 2)]
    for _ in range(2):
        enough = [worker.acknowledged + 5 for worker in workers]
        while any(worker.acknowledged < least for worker, least in zip(workers, enough, strict=True)):
            assert control.process.poll() is None, control.log.read_text()
            time.sleep(0.005)
        control.stop(signal.SIGKILL)
        control = ControlProcess(tmp_path, {})
        for worker in workers:
            worker.control = control
        control.wait_ready()
    for worker in workers:
        worker.stop()
    acknowledged = sum(worker.acknowledged for worker in workers)
    (listed,) = control.request("GET", "/v2/control/models").json()["models"]
    report = control.request("GET", "/v2/control/models/m/report?since=1h").json()
    control.stop()
    assert acknowledged >= 20
    assert listed["watched_rows"] == report["rows"] == acknowledged


def test_it_stops_when_told(tmp_path: Path) -> None:
    with control_process(tmp_path) as control:
        idle = socket.create_connection(("127.0.0.1", control.port))
        assert control.stop(signal.SIGTERM) == 0
        idle.close()
        assert not control.ingest.exists()


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    with control_process(tmp_path) as control:
        control.cut_lifeline()
        assert control.process.wait(20) == 0
        assert "is gone" in control.log.read_text()


def test_only_this_user_may_connect(tmp_path: Path) -> None:
    with control_process(tmp_path) as control:
        assert stat.S_IMODE(control.ingest.stat().st_mode) == 0o600
        directory = tmp_path / "registry.control"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in directory.iterdir()}
        assert {"control.db", "control.db.lock"} <= modes.keys() and set(modes.values()) == {0o600}


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    with control_process(tmp_path) as first:
        second = ControlProcess(tmp_path, {"database": f"sqlite:///{tmp_path / 'other.db'}"})
        assert second.process.wait(20) == 1
        second.stop()
        assert "another control plane is running" in second.log.read_text()
        first.stop(signal.SIGKILL)
        assert first.ingest.exists()
    with control_process(tmp_path) as again:
        assert again.post(b"no")[0] == 400


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.sock").write_text("precious")
    control = ControlProcess(tmp_path, {})
    assert control.process.wait(20) == 1
    control.stop()
    assert (tmp_path / "s.sock").read_text() == "precious"


def test_a_locked_database_is_503_and_then_not(tmp_path: Path) -> None:
    with control_process(tmp_path) as control:
        now = [VersionNow(model="m", version=1, state="READY")]
        one = snapshot(1, [delta(None, normal(3))], now=now).to_bytes()
        other = sqlite3.connect(tmp_path / "registry.control" / "control.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        path, headers = "/v2/control/snapshots", {"authorization": "Bearer let me in"}
        answer = control.request("POST", path, one, headers)
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert "locked" in answer.error
        health = control.request("GET", "/v2/control/health")
        assert health.status == 503 and "locked" in health.json()["database"]
        other.execute("ROLLBACK")
        other.close()
        assert control.post(one)[0] == 200
        assert control.request("GET", "/v2/control/health").status == 200
        assert b'code="200"} 3' in control.request("GET", "/metrics").body


def test_a_copy_that_is_made_while_it_runs_has_everything(tmp_path: Path) -> None:
    copy, elsewhere = tmp_path / "copy.db", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with control_process(tmp_path) as control:
        now_ms = time.time_ns() // 1_000_000
        one = snapshot(1, [delta(REFERENCE, normal(7))], profiles=(REFERENCE,), to_ms=now_ms)
        assert control.post(one.to_bytes())[0] == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "registry.control" / "control.db")) as other:
            other.execute("VACUUM INTO ?", (str(copy),))
        with control_process(elsewhere, database=f"sqlite:///{copy}") as reader:
            report = reader.request("GET", "/v2/control/models/m/report?since=1h").json()
    assert report["rows"] == 7


def test_health_is_well_again_where_nobody_sends_for_its_sake(tmp_path: Path) -> None:
    with control_process(tmp_path) as control:
        other = sqlite3.connect(tmp_path / "registry.control" / "control.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert control.post(snapshot(1, []).to_bytes())[0] == 503
        assert control.request("GET", "/v2/control/health").status == 503
        other.execute("ROLLBACK")
        other.close()
        control.wait_ready()


def test_it_waits_for_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    control = ControlProcess(tmp_path, {"database": "postgresql+psycopg://u:hush@127.0.0.1:1/d"})
    until(lambda: "trying again" in control.log.read_text() or control.process.poll() is not None)
    one = snapshot(1, []).to_bytes()
    status, answer = control.post(one)
    health = control.request("GET", "/v2/control/health")
    assert (status, health.status) == (503, 503)
    assert "port 1 failed" in health.json()["database"] and health.json()["database"] in str(answer["error"])
    report = control.request("GET", "/v2/control/models/m/report")
    assert report.status == 503 and "has not been read" in report.error
    assert control.stop() == 0
    assert "hush" not in control.log.read_text()


def test_a_database_of_a_newer_release_ends_it(tmp_path: Path) -> None:
    with control_process(tmp_path) as control:
        control.stop()
    with sqlite3.connect(tmp_path / "registry.control" / "control.db") as other:
        other.execute("UPDATE fastserve_schema SET version_num = '9999'")
    other.close()
    again = ControlProcess(tmp_path, {})
    assert again.process.wait(20) == 1
    again.stop()
    assert "run the newer release" in again.log.read_text()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "registry.control").touch()
    with pytest.raises(ConfigError, match=r"control\.database"):
        database_url(ControlOptions(), tmp_path / "registry")
    os.unlink(tmp_path / "registry.control")
    assert database_url(ControlOptions(), tmp_path / "registry").endswith("registry.control/control.db")


def test_two_do_not_work_on_one_file(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/shared.db"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with control_process(first, database=database) as one:
        other = ControlProcess(second, {"database": database})
        assert other.process.wait(START_S) == 1
        other.cut_lifeline()
        assert "refused: another control plane works on" in other.log.read_text()
        assert one.request("GET", "/v2/control/health").status == 200
        one.stop(signal.SIGKILL)
    with control_process(second, database=database) as one:
        assert one.request("GET", "/v2/control/health").status == 200


def test_the_lock_ends_with_its_work(tmp_path: Path) -> None:
    for _ in range(2):
        with only_one(f"sqlite:///{tmp_path}/a.db"):
            pass


def test_a_directory_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "fastserve-x" / "s.sock"
    with _unix_listener(path) as local:
        assert local is not None and path.is_socket()
        assert path.parent.stat().st_mode & 0o777 == 0o700
