"""What is told of versions: everything once, also of those that have gone; nothing is kept for nobody."""

from typing import Any, cast

import numpy as np

from fastserve.batching import Watch
from fastserve.dataplane import Served
from fastserve.dataplane.statistics import Statistics, Taken
from fastserve.lifecycle import Record, VersionState
from fastserve.monitoring import Recorder
from fastserve.types import VersionStats
from tests.monitoring import profiles

SHAPE = profiles.signature([("x", "FP32", 3)], [("y", "FP32", 3)])
ROWS = np.zeros((2, 3), np.float32)


class Version:
    """As much of a served version as is counted from."""

    def __init__(self, number: int = 1) -> None:
        self.name = "m"
        self.number = number
        self.stats = VersionStats()
        self.watch = Watch()
        self.unwatched = ""
        self.fast = 0
        self.unseen = 0

    def fast_answers(self) -> int:
        return self.fast

    def settle(self) -> None:
        if self.unseen and self.watch.watcher is not None:
            self.watch.watcher.update([ROWS], [ROWS], self.unseen)
            self.unseen = 0

    def waiting_rows(self) -> int:
        return 7


def served(version: Version) -> Served:
    return cast(Served, version)


def recorder(shift: float = 0.0) -> Recorder:
    one, other = profiles.tensor(), profiles.tensor("y", "output")
    description = f"shifted by {shift}"
    return Recorder(profiles.profile(one, other).model_copy(update={"description": description}), SHAPE, "m")


def codes(statistics: Statistics) -> list[tuple[str, int, dict[str, int]]]:
    return [(one.model, one.version, one.codes) for one in statistics.take([]).deltas]


def test_counts_are_told_once() -> None:
    statistics, version = Statistics(), Version()
    statistics.enrol(served(version))
    version.fast = 3
    version.stats.count_code(200)
    version.stats.count_code(503)
    statistics.count_code(404)
    statistics.count_code(404)
    assert codes(statistics) == [("m", 1, {"200": 4, "503": 1}), ("", 0, {"404": 2})]
    assert codes(statistics) == []
    version.fast = 5
    version.stats.count_code(503)
    assert codes(statistics) == [("m", 1, {"200": 2, "503": 1})]
    version.stats.histograms.batch_rows.add(8)
    (delta,) = statistics.take([]).deltas
    assert (delta.codes, list(delta.histograms)) == ({}, ["batch_rows"]), "it ran, and is answered later"


def test_rows_are_told_with_their_answers() -> None:
    statistics, version = Statistics(), Version()
    version.watch.watcher = recorder()
    statistics.enrol(served(version))
    version.fast = version.unseen = 2
    taken = statistics.take([])
    assert [(one.codes, one.watched_rows) for one in taken.deltas] == [({"200": 2}, 2)]
    assert statistics.take([]).deltas == []


def test_a_version_that_has_gone_is_told_of_once_more() -> None:
    statistics, version = Statistics(), Version()
    statistics.taken_from = True
    version.watch.watcher = watcher = recorder()
    statistics.enrol(served(version))
    version.fast = 3
    watcher.update([ROWS], [ROWS], 2)
    statistics.dismiss(served(version))
    statistics.dismiss(served(version))
    taken = statistics.take([])
    assert [(one.codes, one.watched_rows) for one in taken.deltas] == [({"200": 3}, 2)]
    assert taken.profiles == {watcher.digest: watcher.profile}
    assert statistics.take([]) == Taken()


def test_nothing_is_kept_where_nobody_takes_it() -> None:
    statistics = Statistics()
    for number in range(1, 50):
        version = Version(number)
        statistics.enrol(served(version))
        version.fast = 1
        statistics.dismiss(served(version))
    assert codes(statistics) == []


def test_what_a_recorder_counted_before_another_came_is_kept_under_its_profile() -> None:
    statistics, version = Statistics(), Version()
    first, second = recorder(), recorder(1.0)
    assert first.digest != second.digest
    version.watch.watcher = first
    statistics.enrol(served(version))
    first.update([ROWS], [ROWS], 2)
    statistics.replace(served(version), second)
    first.update([ROWS], [ROWS], 2)  # a run that had found it before
    second.update([ROWS], [ROWS], 2)
    taken = statistics.take([])
    assert [(one.profile, one.watched_rows) for one in taken.deltas] == [
        (first.digest, 4),
        (second.digest, 2),
    ]
    assert set(taken.profiles) == {first.digest, second.digest}
    statistics.replace(served(version), None)
    for _ in range(2):
        second.update([ROWS], [ROWS], 2)  # the second time by a run that was counting as it was looked at
        taken = statistics.take([])
        assert [(one.profile, one.watched_rows) for one in taken.deltas] == [(second.digest, 2)]
        assert set(taken.profiles) == {second.digest}
    assert statistics.take([]) == Taken()


def test_how_versions_stand() -> None:
    statistics, version, failing = Statistics(), Version(), Version(4)
    statistics.enrol(served(version))
    statistics.enrol(served(failing))
    version.unwatched = "it has no profile"
    failing.watch.watcher = watcher = recorder()
    watcher.update([], [], 2)
    records: list[Any] = [
        Record("m", 1, VersionState.READY),
        Record("m", 2, VersionState.UNAVAILABLE, "broken \udcff" * 300),
        Record("m", 3, VersionState.UNAVAILABLE, "unloaded"),
        Record("m", 4, VersionState.READY),
    ]
    now = [
        (one.version, one.state, one.reason, one.queue_rows, one.profile, one.unwatched)
        for one in statistics.take(records).now
    ]
    assert now == [
        (1, "READY", "", 7, None, "it has no profile"),
        (2, "UNAVAILABLE", "broken ?" * 250, 0, None, ""),
        (4, "READY", "", 7, watcher.digest, watcher.failure),
    ]
    assert watcher.failure.startswith("its rows could not be counted")
