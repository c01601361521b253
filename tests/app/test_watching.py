"""Real servers with their control planes: totals over workers, profiles that come late, deaths on every side."""

import json
import os
import re
import signal
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve.controlplane.reporting import Report
from fastserve.monitoring import Profile
from fastserve.monitoring.building import Described, build_profile
from fastserve.registry import Registry
from fastserve.runtime import inspect
from tests import models
from tests.app.test_supervisor import children
from tests.servers import Server, free_port, running
from tests.waiting import until

ROWS = 300


def make_profile(shift: float = 0.0) -> Profile:
    """Of the model `scaled`: three numbers in, twice as much out."""
    rows = np.random.default_rng(1).normal(shift, 1, (5_000, 3)).astype(np.float32)
    signature = models_signature()
    tensors = [
        Described(signature.inputs[0], "input", ("a", "b", "c")),
        Described(signature.outputs[0], "output", ("p", "q", "r")),
    ]
    return build_profile(tensors, lambda: [[rows, 2 * rows]])


def models_signature() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scaled.onnx"
        path.write_bytes(models.scaled())
        return inspect(path)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return make_profile()


@pytest.fixture
def registry(tmp_path: Path, profile: Profile) -> Registry:
    registry = Registry(tmp_path / "registry")
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    registry.publish("scaled", tmp_path / "model.onnx", inspect=inspect, profile=profile.to_bytes())
    return registry


class Watched:
    """A server and its control plane."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return bytes(answer.read())

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the series that have these labels; 0 without any, or while nobody answers."""
        try:
            text = self.get("/metrics").decode()
        except OSError:
            return 0.0
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total

    def answered(self) -> float:
        return self.metric("fastserve_requests_total", code="200")

    def about(self, what: str) -> str:
        """What the control plane knows of the only version; "?" while nobody answers."""
        try:
            (one,) = json.loads(self.get("/v2/control/models"))["models"]
        except (OSError, ValueError):
            return "?"
        return str(one[what])

    def report(self) -> Report:
        return Report.model_validate_json(self.get("/v2/control/models/scaled/report?since=1h"))

    def control_pid(self) -> int:
        """The process that listens on the control port is the one child that is no worker."""
        for pid in children(self.server.process.pid):
            if b"statistics.sock" in Path(f"/proc/{pid}/net/unix").read_bytes() and listens(pid, self.port):
                return pid
        raise AssertionError("no control plane")


def listens(pid: int, port: int) -> bool:
    """Whether a process holds the socket that listens on a port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return bool(inodes & found)


@contextmanager
def watching(registry: Registry, tmp: Path, workers: int = 1, **monitoring: Any) -> Iterator[Watched]:
    port = free_port()
    settings = {
        "server": {"workers": workers, "control_port": port},
        "monitoring": {"interval_s": 0.1, **monitoring},
        "control": {"database": f"sqlite:///{tmp}/control.db"},
    }
    with running(registry.path, tmp, settings) as server:
        yield Watched(server, port)


def bodies(count: int = ROWS) -> list[bytes]:
    rows = np.random.default_rng(2).normal(0.3, 1.2, (count, 3)).astype(np.float32)
    return [
        json.dumps(
            {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row.tolist()}]}
        ).encode()
        for row in rows
    ]


def send_all(server: Server, requests: list[bytes]) -> None:
    for body in requests:
        assert server.request("POST", "/v2/models/scaled/infer", body).status == 200


@pytest.mark.slow
def test_any_number_of_workers_counts_the_same(registry: Registry, tmp_path: Path) -> None:
    seen = []
    for workers in (1, 2, 4):
        place = tmp_path / str(workers)
        place.mkdir()
        with watching(registry, place, workers) as watched:
            send_all(watched.server, bodies())
            until(lambda watched=watched: watched.answered() == ROWS)  # type: ignore[misc]
            assert watched.metric("fastserve_rows_watched_total", model="scaled", version="1") == ROWS
            for phase in ("queue", "compute", "total"):
                name = "fastserve_request_duration_seconds_count"
                assert watched.metric(name, model="scaled", phase=phase) == ROWS
            report = watched.report()
            assert report.rows == ROWS
            seen.append({(one.tensor, one.feature): one for one in report.features})
    alone, *others = seen
    for other in others:
        for key, one in alone.items():
            assert one.live.counts == other[key].live.counts
            assert (one.live.rows, one.live.missing) == (other[key].live.rows, other[key].live.missing)
            mine, theirs = one.live.moments, other[key].live.moments
            assert mine is not None and theirs is not None
            assert mine.mean == pytest.approx(theirs.mean, rel=1e-12)
            assert (mine.minimum, mine.maximum) == (theirs.minimum, theirs.maximum)
            assert one.distances == other[key].distances


def test_what_is_counted_is_what_was_sent(registry: Registry, tmp_path: Path, profile: Profile) -> None:
    with watching(registry, tmp_path) as watched:
        requests = bodies(50)
        send_all(watched.server, requests)
        assert watched.server.request("POST", "/v2/models/scaled/infer", {"inputs": []}).status == 400
        assert watched.server.request("POST", "/v2/models/none/infer", {"inputs": []}).status == 404
        predict = {"instances": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}
        assert watched.server.request("POST", "/v1/models/scaled:predict", predict).status == 200
        until(lambda: watched.answered() == 51)
        until(lambda: watched.metric("fastserve_requests_total", code="404") == 1)
        assert watched.metric("fastserve_requests_total", model="scaled", code="400") == 1
        report = watched.report()
    rows = np.array([json.loads(body)["inputs"][0]["data"] for body in requests] + predict["instances"])
    expected = profile.tensors[0].sketch()
    expected.update(rows.astype(np.float32))
    counts, offsets = expected.counts.tolist(), expected.offsets.tolist()
    live = {one.feature: one.live for one in report.features if one.role == "input"}
    for f, name in enumerate("abc"):
        assert list(live[name].counts) == counts[offsets[f] : offsets[f + 1]]
        assert live[name].rows == 52


class Load(threading.Thread):
    """Asks on connections of their own until told to stop; counts what went wrong."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.answered = 0
        self.failed: list[object] = []
        self.stopping = False
        self.start()

    def run(self) -> None:
        (body,) = bodies(1)
        while not self.stopping:
            try:
                status = self.server.request("POST", "/v2/models/scaled/infer", body).status
            except OSError as error:
                self.failed.append(error)
                continue
            if status == 200:
                self.answered += 1
            else:
                self.failed.append(status)

    def stop(self) -> None:
        self.stopping = True
        self.join()


@pytest.mark.slow
def test_a_killed_control_plane_comes_back_and_has_counted_everything_once(
    registry: Registry, tmp_path: Path
) -> None:
    with watching(registry, tmp_path, 2) as watched:
        until(lambda: watched.metric("fastserve_workers") == 2)
        load = Load(watched.server)
        for _ in range(3):
            before = watched.answered()
            victim = watched.control_pid()
            os.kill(victim, signal.SIGKILL)
            until(lambda before=before: watched.answered() > before)  # type: ignore[misc]
            time.sleep(0.3)
        load.stop()
        assert not load.failed
        until(lambda: watched.answered() >= load.answered)
        time.sleep(0.5)
        assert watched.answered() == load.answered
        assert watched.report().rows == load.answered


@pytest.mark.slow
def test_a_killed_worker_loses_a_second_at_most_and_counts_nothing_twice(
    registry: Registry, tmp_path: Path
) -> None:
    with watching(registry, tmp_path, 2) as watched:
        until(lambda: watched.metric("fastserve_workers") == 2)
        send_all(watched.server, bodies(100))
        until(lambda: watched.answered() == 100)
        control = watched.control_pid()
        victim = next(pid for pid in children(watched.server.process.pid) if pid != control)
        cpu_s = watched.metric("fastserve_process_cpu_seconds_total")
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: (
                len(children(watched.server.process.pid)) == 3 and not Path(f"/proc/{victim}/fd/0").exists()
            )
        )
        until(
            lambda: (
                sum(watched.server.request("GET", "/v2/health/ready").status == 200 for _ in range(20)) == 20
            )
        )
        send_all(watched.server, bodies(50))
        until(lambda: watched.answered() == 150)
        time.sleep(0.5)
        assert watched.answered() == 150
        assert watched.report().rows == 150
        assert watched.metric("fastserve_process_cpu_seconds_total") >= cpu_s


def test_counters_go_on_where_they_were_when_everything_starts_anew(
    registry: Registry, tmp_path: Path
) -> None:
    with watching(registry, tmp_path) as watched:
        until(lambda: watched.metric("fastserve_workers") == 1)
        send_all(watched.server, bodies(20))
    # What was counted in the last moment was told before the end.
    with watching(registry, tmp_path) as watched:
        until(lambda: watched.answered() == 20)
        send_all(watched.server, bodies(5))
        until(lambda: watched.answered() == 25)
        assert watched.report().rows == 25


def test_a_profile_that_comes_late_is_noticed_and_one_of_another_model_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    registry.publish("scaled", tmp_path / "model.onnx", inspect=inspect)
    with watching(registry, tmp_path) as watched:
        until(lambda: "it has no profile" in watched.about("unwatched"))
        send_all(watched.server, bodies(5))
        wrong = make_profile()
        tensor = wrong.tensors[0]
        narrow = tensor.model_copy(update={"features": tensor.features[:2]})
        registry.add_profile("scaled", 1, wrong.model_copy(update={"tensors": (narrow,)}).to_bytes())
        until(lambda: "has 2 columns, the model takes 3: 'b' is the last" in watched.about("unwatched"))
        (registry.path / "scaled" / "profiles" / "1.json").unlink()
        until(lambda: "it has no profile" in watched.about("unwatched"))
        right = registry.add_profile("scaled", 1, make_profile().to_bytes())
        until(lambda: watched.about("profile") == right)
        assert watched.about("unwatched") == ""
        send_all(watched.server, bodies(7))
        until(lambda: watched.metric("fastserve_rows_watched_total") == 7)
        assert watched.answered() == 12
        # Another one: what the one before has counted stays under it.
        other = registry.add_profile("scaled", 1, make_profile(5.0).to_bytes(), replace=True)
        until(lambda: watched.about("profile") == other)
        send_all(watched.server, bodies(3))
        until(lambda: watched.metric("fastserve_rows_watched_total") == 10)
        assert watched.report().rows == 3


def test_the_first_rows_can_be_pinned_as_the_reference(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    registry.publish("scaled", tmp_path / "model.onnx", inspect=inspect)
    with watching(registry, tmp_path, pin_rows=40) as watched:
        send_all(watched.server, bodies(40))
        until(lambda: registry.profile("scaled", 1) is not None)
        until(lambda: len(watched.about("profile")) == 64)
        send_all(watched.server, bodies(10))
        until(lambda: watched.metric("fastserve_rows_watched_total") == 10)
        report = watched.report()
    assert report.source == "live"
    assert report.description == "the first 40 rows that were served"
    assert (report.reference_rows, report.rows) == (40, 10)


def test_serving_goes_on_when_the_control_plane_cannot_work(registry: Registry, tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "server": {"control_port": port},
        "control": {"database": f"sqlite:///{tmp_path}/no/such/directory/control.db"},
    }
    with running(registry.path, tmp_path, settings) as server:
        send_all(server, bodies(20))
        until(lambda: "the control plane ended with code" in server.log.read_text())
        send_all(server, bodies(20))


def test_a_model_says_itself_that_it_is_not_watched(registry: Registry, tmp_path: Path) -> None:
    (registry.path / "scaled" / "model.yaml").write_text("monitoring:\n  enabled: false\n")
    with watching(registry, tmp_path) as watched:
        send_all(watched.server, bodies(5))
        until(lambda: watched.answered() == 5)
        (one,) = json.loads(watched.get("/v2/control/models"))["models"]
    assert (one["unwatched"], one["watched_rows"]) == ("monitoring is off", 0)
