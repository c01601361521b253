"""The database stays small: what is kept, for how long, and how large the file becomes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.rollup import SOURCE_DAYS, Rollup
from fastserve.controlplane.spans import DAY_MS, HOUR_MS, MINUTE_MS, parse_since, span_until
from fastserve.controlplane.store import Store
from fastserve.controlplane.summary import Summaries
from fastserve.controlplane.tables import profiles, sources, windows, workers
from fastserve.monitoring.snapshot import VersionDelta
from tests.controlplane.snapshots import NOON_MS, Clock, delta, normal, profile, roll_up, snapshot

REFERENCE = profile(features=32, bins=16, categories=False)
BOUND_BYTES = 8 * 2**20
"""Of a version with 32 numbers in 16 bins, with the options as they come: 2,300 windows of 2 to 4 kB."""


def keep_house(rollup: Rollup, now_ms: int) -> None:
    roll_up(rollup, now_ms)
    rollup.forget(now_ms, set())


def levels(store: Store) -> dict[str, int]:
    with store.database.reading() as connection:
        query = select(windows.c.level, func.count()).group_by(windows.c.level)
        return {row[0]: row[1] for row in connection.execute(query)}


def rows_in(store: Store, level: str) -> int:
    with store.database.reading() as connection:
        return int(connection.scalar(select(func.sum(windows.c.rows)).where(windows.c.level == level)) or 0)


def test_thirty_days_of_minutes_stay_small(
    open_store: Callable[[ControlOptions], Store], clock: Clock, tmp_path: Path
) -> None:
    options = ControlOptions(count_window_rows=100)
    store = open_store(options)
    rollup = Rollup(store, options)
    minutes = [delta(REFERENCE, normal(60, seed, 32)) for seed in range(60)]
    start_ms, largest = NOON_MS // DAY_MS * DAY_MS, 0
    for hour in range(0, 30 * 24, 3):
        # The last 30 hours minute by minute; before, two minutes an hour will do.
        step = 1 if hour >= 30 * 24 - 30 else 30
        clock.now_ms = start_ms + (hour + 3) * HOUR_MS
        store.take_in(
            [
                snapshot(
                    hour * 60 + minute + 1,
                    [minutes[minute % 60]],
                    to_ms=start_ms + hour * HOUR_MS + minute * MINUTE_MS,
                    profiles=(REFERENCE,) if hour == 0 else (),
                )
                for minute in range(0, 180, step)
            ]
        )
        if hour % 12 == 9:
            keep_house(rollup, clock.now_ms + 5 * MINUTE_MS)
            largest = max(largest, sum(one.stat().st_size for one in tmp_path.glob("*.db")))
    kept = levels(store)
    assert kept["minute"] <= 27 * 60 and kept["minute"] >= 26 * 60
    assert 8 * 24 <= kept["hour"] <= 9 * 24 and kept["day"] == 30
    assert kept["count"] <= 500 + 12 * 60
    assert rows_in(store, "day") == 60 * (2 * (30 * 24 - 30) + 60 * 30)
    assert largest < BOUND_BYTES, largest
    # And what was deleted goes back to the disk.
    for _ in range(3):
        keep_house(rollup, clock.now_ms + 500 * DAY_MS)
    store.database.close()
    assert (tmp_path / "one.db").stat().st_size < BOUND_BYTES / 20


def test_an_hour_is_summed_up_once_it_is_over(
    open_store: Callable[[ControlOptions], Store], clock: Clock
) -> None:
    options = ControlOptions()
    store = open_store(options)
    rollup = Rollup(store, options)
    small = profile()
    for number in range(3):
        to_ms = NOON_MS + number * 7 * MINUTE_MS
        clock.now_ms = to_ms
        store.take_in([snapshot(number + 1, [delta(small, normal(10))], to_ms=to_ms, profiles=(small,))])
    keep_house(rollup, NOON_MS + HOUR_MS + 2 * MINUTE_MS - 1)
    assert levels(store) == {"minute": 3, "count": 1}, "its last minutes may still be on their way"
    keep_house(rollup, NOON_MS + HOUR_MS + 2 * MINUTE_MS)
    assert levels(store) == {"minute": 3, "hour": 1, "count": 1}
    assert rows_in(store, "hour") == 30
    clock.now_ms = NOON_MS + 2 * HOUR_MS
    store.take_in([snapshot(4, [delta(small, normal(5))], to_ms=NOON_MS, profiles=(small,))])
    assert rows_in(store, "hour") == 35, "a late minute is added at once"
    keep_house(rollup, NOON_MS + 3 * HOUR_MS)
    assert rows_in(store, "hour") == 35


def test_what_is_long_gone_is_forgotten(open_store: Callable[[ControlOptions], Store], clock: Clock) -> None:
    options = ControlOptions(keep_days_d=10, count_window_rows=100)
    store = open_store(options)
    rollup = Rollup(store, options)
    small, other = profile(), profile(salt="other")
    store.take_in(
        [snapshot(1, [delta(small, normal(10)), delta(other, normal(9), version=2)], profiles=(small, other))]
    )
    keep_house(rollup, NOON_MS + 2 * DAY_MS)
    with store.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(profiles)) == 2
    later_ms = NOON_MS + max(SOURCE_DAYS, 12) * DAY_MS
    assert rollup.forget(later_ms, {("m", 2)}) == {("m", 1)}
    with store.database.reading() as connection:
        for table in (profiles, sources, workers, windows):
            assert connection.scalar(select(func.count()).select_from(table)) == 0, table.name
    assert store.load().totals.keys() == {("m", 2)}
    # A worker that comes back is asked for its profile, and counted on.
    clock.now_ms = later_ms
    again = snapshot(2, [delta(small, normal(10))], to_ms=later_ms)
    assert store.take_in([again]).answers[0].wanted == (small.digest(),)


def test_who_sends_with_a_clock_of_its_own_is_remembered(store: Store) -> None:
    one = snapshot(1, [delta(None, normal(10))], to_ms=NOON_MS - 30 * DAY_MS)
    store.take_in([one])
    Rollup(store, ControlOptions()).forget(NOON_MS + SOURCE_DAYS * DAY_MS, set())
    assert store.take_in([one]).totals == {}, "it was counted before"


@pytest.mark.parametrize("late_ms", [0, 1])
def test_a_new_profile_waits_a_day_for_its_rows(store: Store, late_ms: int) -> None:
    small, other = profile(), profile(salt="other")
    both = [delta(small, normal(10)), delta(other, normal(9), "n")]
    assert store.take_in([snapshot(1, both, profiles=(small,))]).answers[0].wanted == (other.digest(),)
    Rollup(store, ControlOptions()).forget(NOON_MS + DAY_MS + late_ms, set())
    wanted = (small.digest(),) if late_ms else ()
    assert store.take_in([snapshot(1, both, profiles=(other,))]).answers[0].wanted == wanted


def test_a_profile_goes_with_the_last_of_its_windows(
    open_store: Callable[[ControlOptions], Store], clock: Clock
) -> None:
    options = ControlOptions(keep_days_d=10)
    store = open_store(options)
    rollup = Rollup(store, options)
    before, after = profile(), profile(salt="after")
    for number, reference in ((1, before), (2, after)):
        clock.now_ms = NOON_MS + number * 6 * DAY_MS
        rows = delta(reference, normal(10))
        store.take_in([snapshot(number, [rows], to_ms=clock.now_ms, profiles=(reference,))])
    for day, kept in [(14, [before, after]), (19, [after])]:
        keep_house(rollup, NOON_MS + day * DAY_MS)
        with store.database.reading() as connection:
            found = set(connection.scalars(select(profiles.c.digest)))
        assert found == {one.digest() for one in kept}, day


@pytest.mark.parametrize(("hours_d", "hour"), [(1, 0.2), (1, 15.98), (9, 0.2), (9, 15.98)])
def test_every_span_that_can_be_asked_for_is_whole(
    open_store: Callable[[ControlOptions], Store], clock: Clock, hours_d: float, hour: float
) -> None:
    options = ControlOptions(keep_minutes_h=2, keep_hours_d=hours_d, keep_days_d=7, count_window_rows=10_000)
    store, small, sent = open_store(options), profile(), {}
    rollup, summaries = Rollup(store, options), Summaries(store.database, store.profiles)
    begin_ms = NOON_MS // DAY_MS * DAY_MS
    for number in range(40):
        clock.now_ms = at_ms = begin_ms + number * 7 * HOUR_MS
        rows = 10 + number
        store.take_in([snapshot(number + 1, [delta(small, normal(rows))], to_ms=at_ms, profiles=(small,))])
        sent[at_ms // MINUTE_MS * MINUTE_MS] = rows
        keep_house(rollup, at_ms + 5 * MINUTE_MS)
    now_ms = clock.now_ms // DAY_MS * DAY_MS + DAY_MS + int(hour * HOUR_MS)
    keep_house(rollup, now_ms)
    for since in ("2h", "12h", "26h", "2d", "6d", "7d", "400d"):
        span = span_until(now_ms, parse_since(since), options)
        wanted = sum(rows for at_ms, rows in sent.items() if at_ms >= span.start_ms)
        assert summaries.live("m", 1, span.start_ms, span.end_ms).rows == wanted, since
    # The window by count began twelve days ago and is being filled.
    assert rows_in(store, "count") == sum(sent.values())


def test_windows_by_count_are_limited(open_store: Callable[[ControlOptions], Store]) -> None:
    options = ControlOptions(count_window_rows=100, keep_count_windows=3)
    store = open_store(options)
    for number in range(1, 8):
        store.take_in([snapshot(number, [VersionDelta(model="m", version=1, watched_rows=100 + number)])])
    for _ in range(2):  # as many as are kept are no surplus
        keep_house(Rollup(store, options), NOON_MS)
        with store.database.reading() as connection:
            query = select(windows.c.rows).where(windows.c.level == "count").order_by(windows.c.start_ms)
            assert connection.scalars(query).all() == [105, 106, 107]


def test_rows_that_come_late_are_kept_until_they_are_summed_up(
    open_store: Callable[[ControlOptions], Store], clock: Clock
) -> None:
    """They may come between the sums and the deletion of one housekeeping, past the time of their minute."""
    options = ControlOptions(keep_minutes_h=2.0)
    store = open_store(options)
    rollup = Rollup(store, options)
    clock.now_ms = NOON_MS + 30 * MINUTE_MS
    late_ms = clock.now_ms - 170 * MINUTE_MS
    store.take_in([snapshot(1, [delta(REFERENCE, normal(50, 0, 32))], to_ms=late_ms, profiles=(REFERENCE,))])
    rollup.forget(clock.now_ms, {("m", 1)})
    assert rows_in(store, "minute") == 50
    keep_house(rollup, clock.now_ms)
    assert (rows_in(store, "minute"), rows_in(store, "hour")) == (0, 50)
    for days, left in ((30, 50), (402, 0)):  # no day has the hour's rows, but there is an end
        rollup.forget(clock.now_ms + days * DAY_MS, {("m", 1)})
        assert rows_in(store, "hour") == left
