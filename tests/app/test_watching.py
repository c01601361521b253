"""Real servers with their control planes: totals over workers, profiles that come late, deaths on every side."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from fastserve.monitoring import Profile
from fastserve.registry import Registry
from tests import models
from tests.app.watched import Load, Watched, bodies, make_profile, send_all, watching
from tests.processes import children
from tests.registries import publish
from tests.servers import free_port, request, running
from tests.waiting import until

ROWS = 300


@pytest.mark.slow
def test_any_number_of_workers_counts_the_same(registry: Registry, tmp_path: Path) -> None:
    seen = []
    for workers in (1, 2, 4):
        place = tmp_path / str(workers)
        place.mkdir()
        with watching(registry, place, workers=workers) as watched:
            send_all(watched.server, bodies(ROWS))
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


@pytest.mark.slow
def test_a_killed_control_plane_comes_back_and_has_counted_everything_once(
    registry: Registry, tmp_path: Path
) -> None:
    with watching(registry, tmp_path, workers=2) as watched:
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
    with watching(registry, tmp_path, workers=2) as watched:
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
        send_all(watched.server, bodies(20))
    # What was counted in the last moment was told before the end.
    with watching(registry, tmp_path) as watched:
        until(lambda: watched.answered() == 20)
        send_all(watched.server, bodies(5))
        until(lambda: watched.answered() == 25)
        assert watched.report().rows == 25


def test_a_profile_that_comes_late_is_noticed_and_one_of_another_model_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    publish(registry, "scaled", models.scaled())
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
    publish(registry, "scaled", models.scaled())
    with watching(registry, tmp_path, monitoring={"interval_s": 0.05, "pin_rows": 40}) as watched:
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
    directory = tmp_path / "not there yet"
    settings = {
        "server": {"control_port": port},
        "control": {"database": f"sqlite:///{directory}/control.db"},
    }
    with running(registry.path, tmp_path, settings) as server:
        send_all(server, bodies(20))
        until(lambda: server.log.read_text().count("the control plane ended with code 1;") == 3)
        with pytest.raises(ConnectionRefusedError):  # nobody waits for what may never come
            request(port, "GET", "/metrics")
        assert f"there is no directory '{directory}'" in server.log.read_text()
        send_all(server, bodies(20))
        directory.mkdir()
        until(lambda: Watched(server, port).answered() == 40)


def test_a_model_says_itself_that_it_is_not_watched(registry: Registry, tmp_path: Path) -> None:
    (registry.path / "scaled" / "model.yaml").write_text("monitoring:\n  enabled: false\n")
    with watching(registry, tmp_path) as watched:
        send_all(watched.server, bodies(5))
        until(lambda: watched.answered() == 5)
        (one,) = json.loads(watched.get("/v2/control/models"))["models"]
    assert (one["unwatched"], one["watched_rows"]) == ("monitoring is off", 0)
