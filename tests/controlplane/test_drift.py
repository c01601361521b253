"""When versions are compared again for `/metrics`."""

from types import SimpleNamespace

import pytest

from fastserve.controlplane.drift import DriftWatch
from fastserve.controlplane.fleet import Fleet, WorkerNow
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.rollup import Rollup
from fastserve.controlplane.spans import HOUR_MS, MINUTE_MS
from fastserve.controlplane.store import Store
from fastserve.controlplane.summary import Summaries
from fastserve.monitoring.comparing import FeatureComparison
from fastserve.monitoring.snapshot import ProcessFigures, VersionNow
from tests.controlplane.fleets import category, number
from tests.controlplane.snapshots import NOON_MS, Clock, delta, normal, profile, snapshot

VERSION = ("m", 1)


class Scene:
    """A version that a worker watches, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.fleet = Fleet()
        self.watch = DriftWatch(
            Summaries.__new__(Summaries), self.fleet, ControlOptions(), lambda: self.now_s
        )
        process = ProcessFigures(pid=1, resident_bytes=1, cpu_s=1.0, open_fds=1, threads=1)
        now = VersionNow(model="m", version=1, state="READY", profile=profile().digest())
        self.fleet.workers["here", 0] = WorkerNow("a" * 32, 0.0, process, [now])

    def compared(self, rows: bool, after_s: float, shown: list[FeatureComparison]) -> bool:
        """Tell whether it is compared so long after the last time, and show what came of it."""
        self.now_s += after_s
        due = self.watch.due({VERSION} if rows else set())
        for version in due:
            self.watch.show(version, shown)
        return due == [VERSION]


def test_first_rows_are_compared_at_once_and_later_ones_in_their_turn() -> None:
    scene, found = Scene(), [number()]
    assert scene.compared(False, 0, [])
    assert not scene.compared(False, 5, [])
    assert scene.compared(True, 5, found)
    assert not scene.compared(True, 5, found)
    assert not scene.compared(False, 5, found)
    assert scene.compared(False, 5, found)  # rows that came ten seconds ago are not forgotten
    assert not scene.compared(False, 55, found)
    assert scene.compared(False, 5, found)  # old rows leave the window


def test_a_version_that_is_gone_has_no_distances() -> None:
    scene = Scene()
    assert scene.compared(True, 0, [number()])
    assert VERSION in scene.fleet.drift
    workers = dict(scene.fleet.workers)
    scene.fleet.workers.clear()
    assert not scene.compared(True, 1, [])
    assert VERSION not in scene.fleet.drift
    scene.fleet.workers.update(workers)
    assert scene.compared(False, 1, []), "one that is back waits for nothing"


def test_what_a_page_shows_is_worked_out_with_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    live = SimpleNamespace(rows=100, features=lambda: [category()])
    monkeypatch.setattr(Summaries, "live", lambda *_: live)
    (one,) = Scene().watch.compare(VERSION, NOON_MS)
    monkeypatch.delattr("fastserve.monitoring.comparing.pooled")
    assert one.excess


def test_distances_go_with_the_last_rows_of_the_window() -> None:
    scene = Scene()
    assert scene.compared(True, 0, [number()])
    assert scene.compared(False, 60, [])
    assert VERSION not in scene.fleet.drift


def test_a_window_holds_at_least_what_it_says(store: Store, clock: Clock) -> None:
    reference = profile()
    for second in range(0, 600, 5):
        clock.now_ms = NOON_MS + second * 1_000
        one = snapshot(second + 1, [delta(reference, normal(7))], to_ms=clock.now_ms, profiles=(reference,))
        store.take_in([one])
    summaries = Summaries(store.database, store.profiles)
    watch = DriftWatch(summaries, Fleet(), ControlOptions(drift_window_s=60), lambda: 0.0)
    for second in (595, 540, 541, 570, 599):
        found = watch.compare(VERSION, NOON_MS + second * 1_000)
        assert {feature.live.rows for feature in found} == {7 * (595 - (second - 60) // 60 * 60 + 5) // 5}


def test_a_window_longer_than_minutes_are_kept_begins_with_a_whole_hour(store: Store, clock: Clock) -> None:
    options = ControlOptions(keep_minutes_h=2, drift_window_s=3 * 3_600)
    rollup, reference = Rollup(store, options), profile()
    clock.now_ms = NOON_MS + 30 * MINUTE_MS
    store.take_in([snapshot(1, [delta(reference, normal(7))], to_ms=clock.now_ms, profiles=(reference,))])
    clock.now_ms += 3 * HOUR_MS
    for key, start_ms in rollup.due("hour", clock.now_ms):
        rollup.roll(key, "hour", start_ms)
    rollup.forget(clock.now_ms, set())
    watch = DriftWatch(Summaries(store.database, store.profiles), Fleet(), options, lambda: 0.0)
    found = watch.compare(VERSION, clock.now_ms)
    assert found[0].live.rows == 7
