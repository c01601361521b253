"""What waits for the control plane: nothing lost, nothing twice, bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.monitoring import Profile
from fastserve.monitoring import outbox as outbox_module
from fastserve.monitoring.outbox import Identity, Outbox, Report
from fastserve.monitoring.snapshot import HistogramDelta, ProcessFigures, Snapshot, VersionDelta, VersionNow
from fastserve_core.sketch import NumberSketch
from tests.monitoring import profiles

WHO = Identity("host", 1, "0" * 32)
FIGURES = ProcessFigures(pid=1, resident_bytes=2, cpu_s=3.0, open_fds=4, threads=5)
PROFILE = profiles.profile(profiles.tensor())


def delta(rows: int, model: str = "m") -> VersionDelta:
    sketch = PROFILE.tensors[0].sketch()
    assert isinstance(sketch, NumberSketch)
    sketch.update(np.full((rows, 3), 5.5, np.float32))
    return VersionDelta(
        model=model,
        version=1,
        codes={"200": rows},
        histograms={"queue": HistogramDelta(buckets={3: rows}, total=10 * rows)},
        watched_rows=rows,
        profile=PROFILE.digest(),
        states=[sketch.to_bytes()],
    )


def idle() -> VersionDelta:
    """Of a second in which nothing was counted against the profile."""
    return VersionDelta(model="m", version=1, codes={"503": 1}, profile=PROFILE.digest())


def add(outbox: Outbox, at_s: float, *deltas: VersionDelta) -> None:
    span_ms = (int(at_s * 1_000) - 1_000, int(at_s * 1_000))
    now = [VersionNow(model="m", version=1, state="READY", profile=PROFILE.digest())]
    outbox.add(Report(list(deltas), now, FIGURES, span_ms, {PROFILE.digest(): PROFILE}))


def drain(outbox: Outbox) -> list[Snapshot]:
    out = []
    while (snapshot := outbox.next()) is not None:
        out.append(snapshot)
        outbox.acknowledge()
    return out


def rows_of(snapshot: Snapshot, profile: Profile = PROFILE) -> int:
    total = 0
    for one in snapshot.deltas:
        sketch = profile.tensors[0].sketch()
        sketch.merge_bytes(one.states[0])
        assert sketch.rows == one.watched_rows == one.codes["200"] == one.histograms["queue"].buckets[3]
        total += one.watched_rows
    return total


def test_a_snapshot_stays_the_same_until_it_is_acknowledged() -> None:
    outbox = Outbox(WHO, 10)
    add(outbox, 100, delta(3))
    first = outbox.next()
    assert first is not None and first.number == 1
    sent = first.to_bytes()
    add(outbox, 101, delta(4))
    again = outbox.next()
    assert again is not None and again.to_bytes() == sent
    outbox.acknowledge()
    second = outbox.next()
    assert second is not None and second.number == 2 and rows_of(second) == 4
    outbox.acknowledge()
    assert outbox.next() is None and outbox.waiting == 0


def test_what_waits_is_merged_minute_by_minute() -> None:
    outbox = Outbox(WHO, 10)
    for second in range(30, 150, 10):
        add(outbox, second, delta(2), delta(1, "other"))
    snapshots = drain(outbox)
    assert [rows_of(one) for one in snapshots] == [9, 18, 9]
    assert [one.from_ms for one in snapshots] == [29_000, 59_000, 119_000]
    assert [one.to_ms for one in snapshots] == [50_000, 110_000, 140_000]
    assert [len(one.deltas) for one in snapshots] == [2, 2, 2]


def test_beyond_the_limit_the_oldest_minutes_become_one() -> None:
    outbox = Outbox(WHO, 3)
    for minute in range(1, 7):
        add(outbox, 60 * minute, delta(minute))
    snapshots = drain(outbox)
    assert [rows_of(one) for one in snapshots] == [1 + 2 + 3 + 4, 5, 6]
    assert [one.from_ms for one in snapshots] == [59_000, 299_000, 359_000]
    assert [one.to_ms for one in snapshots] == [240_000, 300_000, 360_000]


def test_seconds_without_rows_and_another_profile_in_one_minute() -> None:
    other = PROFILE.model_copy(update={"description": "another one"})
    changed = delta(4)
    changed.profile = other.digest()
    outbox = Outbox(WHO, 10)
    for second, one in enumerate((idle(), delta(3), idle(), changed, delta(2)), start=70):
        add(outbox, second, one)
    (sent,) = drain(outbox)
    first, second_ = sent.deltas
    assert (first.profile, first.watched_rows, first.codes) == (PROFILE.digest(), 5, {"503": 2, "200": 5})
    assert first.histograms == {"queue": HistogramDelta(buckets={3: 5}, total=50)}
    assert (second_.profile, second_.watched_rows) == (other.digest(), 4)
    sketch = PROFILE.tensors[0].sketch()
    sketch.merge_bytes(first.states[0])
    assert sketch.rows == 5


def test_two_versions_in_one_minute_are_counted_apart() -> None:
    """As in the minute of a swap; most versions have no profile that would tell them apart."""
    outbox = Outbox(WHO, 10)
    for second in (70, 71):
        for version in (1, 2):
            add(outbox, second, VersionDelta(model="m", version=version, codes={"200": version}))
    (sent,) = drain(outbox)
    assert [(one.version, one.codes) for one in sent.deltas] == [(1, {"200": 2}), (2, {"200": 4})]


def test_a_snapshot_says_how_the_worker_stands_now() -> None:
    outbox = Outbox(WHO, 10)
    add(outbox, 100, delta(1))
    now = [VersionNow(model="m", version=2, state="LOADING", profile=None)]
    figures = ProcessFigures(pid=1, resident_bytes=20, cpu_s=30.0, open_fds=40, threads=50)
    outbox.add(Report([], now, figures, (101_000, 102_000)))
    (sent,) = drain(outbox)
    assert (sent.now, sent.process) == (now, figures)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(2, 5), st.data())
def test_nothing_is_lost_however_long_nobody_takes_it(
    rows: list[int], limit: int, data: st.DataObject
) -> None:
    outbox = Outbox(WHO, limit)
    got = 0
    for minute, count in enumerate(rows):
        add(outbox, 60 * minute + 30, *([delta(count)] if count else []))
        assert outbox.waiting <= limit + 1
        if data.draw(st.booleans()) and (one := outbox.next()) is not None:
            got += rows_of(one)
            outbox.acknowledge()
    got += sum(rows_of(one) for one in drain(outbox))
    assert got == sum(rows)


def test_profiles_are_sent_when_they_are_asked_for() -> None:
    outbox = Outbox(WHO, 10)
    add(outbox, 100, delta(1))
    assert outbox.next() is not None
    assert outbox.attach([PROFILE.digest()])
    sent = outbox.next()
    assert sent is not None and sent.profiles == {PROFILE.digest(): PROFILE.to_bytes()}
    assert not outbox.attach(["f" * 64])


def test_profiles_are_kept_as_long_as_something_waits_for_them() -> None:
    outbox, other = Outbox(WHO, 10), profiles.profile(profiles.tensor("z"))
    now = [VersionNow(model="m", version=1, state="READY", profile=other.digest())]
    both = {PROFILE.digest(): PROFILE, other.digest(): other}
    for minute in (1, 2):
        outbox.add(Report([delta(1)], now, FIGURES, (minute * 60_000, minute * 60_000 + 1), both))
    outbox.next()
    outbox.acknowledge()
    assert outbox.next() is not None
    assert outbox.attach([PROFILE.digest()]), "the second minute has rows that were counted against it"
    outbox.acknowledge()
    outbox.add(Report([], now, FIGURES, (180_000, 180_001)))
    assert outbox.next() is not None
    assert not outbox.attach([PROFILE.digest()]), "nobody counts against it any more"
    assert outbox.attach([other.digest()])


def test_a_clock_set_back_loses_nothing() -> None:
    outbox = Outbox(WHO, 10)
    add(outbox, 1_000, delta(1))
    add(outbox, 100, delta(2))
    add(outbox, 1_001, delta(4))
    assert sum(rows_of(one) for one in drain(outbox)) == 7
    add(outbox, 130, delta(1))
    add(outbox, 125, delta(2))
    (one,) = drain(outbox)
    assert (one.from_ms, one.to_ms, rows_of(one)) == (124_000, 130_000, 3)


def test_profiles_that_do_not_fit_together_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    references = {one.digest(): one for one in (profiles.profile(profiles.tensor(f"x{n}")) for n in range(5))}
    largest = max(len(one.to_bytes()) for one in references.values())
    monkeypatch.setattr(outbox_module, "MAX_SNAPSHOT_BYTES", 2 * (3 * largest + 500))
    outbox = Outbox(WHO, 10)
    deltas = [VersionDelta(model=digest[:8], version=1, profile=digest) for digest in references]
    deltas[0].states = [bytes(largest)]  # which takes room too
    outbox.add(Report(deltas, [], FIGURES, (0, 1_000), references))
    sent = outbox.next()
    assert sent is not None
    kept: set[str] = set()
    for _ in range(3):
        assert outbox.attach(sorted(references.keys() - kept))
        assert 1 <= len(sent.profiles) <= 2
        kept |= sent.profiles.keys()
    assert kept == references.keys()
    for _ in range(20):  # a control plane that keeps none of them
        if not outbox.attach(sorted(references)):
            break
    else:
        raise AssertionError("it goes on for ever")
