"""Reports: every row of a span once, worst feature first, a timeline of at most sixty points."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete as delete_from
from sqlalchemy import update

from fastserve.controlplane.errors import NotWatched, ProfileUnavailable
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.rollup import Rollup
from fastserve.controlplane.spans import (
    DAY_MS,
    HOUR_MS,
    MAX_POINTS,
    MINUTE_MS,
    SPAN_MS,
    Stored,
    choose,
    parse_since,
    span_until,
)
from fastserve.controlplane.states import pack
from fastserve.controlplane.store import Store
from fastserve.controlplane.summary import Summaries, time_point
from fastserve.controlplane.tables import profiles, windows
from fastserve.errors import InvalidRequest
from fastserve.monitoring.bins import Bins
from fastserve.monitoring.comparing import compare
from tests.controlplane import snapshots as make
from tests.controlplane.snapshots import NOON_MS, Clock, delta, normal, profile, roll_up, snapshot

REFERENCE = profile()


@given(
    now_ms=st.integers(NOON_MS, NOON_MS + 10 * DAY_MS),
    since_ms=st.integers(1, 500 * DAY_MS),
    hours_d=st.floats(1, 365),
    minutes_h=st.floats(2, 720),
)
def test_a_span_holds_what_was_asked_for(
    now_ms: int, since_ms: int, hours_d: float, minutes_h: float
) -> None:
    options = ControlOptions(keep_hours_d=hours_d, keep_minutes_h=minutes_h)
    span = span_until(now_ms, since_ms, options)
    assert span.start_ms <= now_ms - min(since_ms, int(options.keep_days_d * DAY_MS))
    assert now_ms < span.end_ms <= now_ms + MINUTE_MS
    assert (span.end_ms - 1) // span.step_ms - span.start_ms // span.step_ms < MAX_POINTS
    # All windows that make up the span still exist at that moment, and none crosses its start.
    finest = next(size for size in (DAY_MS, HOUR_MS, MINUTE_MS) if span.start_ms % size == 0)
    kept_ms = {
        MINUTE_MS: minutes_h * HOUR_MS,
        HOUR_MS: hours_d * DAY_MS,
        DAY_MS: options.keep_days_d * DAY_MS,
    }
    assert min(since_ms, kept_ms[DAY_MS]) <= kept_ms[finest] or finest == MINUTE_MS


@given(
    minutes=st.sets(st.integers(0, 3 * 1_440 - 1), max_size=80),
    hours=st.sets(st.integers(0, 71)),
    days=st.sets(st.integers(0, 2)),
    step_ms=st.sampled_from([MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS, DAY_MS]),
)
def test_chosen_windows_hold_every_minute_once(
    minutes: set[int], hours: set[int], days: set[int], step_ms: int
) -> None:
    """Rows are in minutes; an hour or a day that exists holds what is marked as rolled below it."""
    has_rows = {minute // 60 for minute in minutes}
    made = hours & has_rows
    whole_days = {hour // 24 for hour in made} & days
    stored = [Stored(minute * MINUTE_MS, "minute", minute // 60 in made) for minute in minutes]
    stored += [Stored(hour * HOUR_MS, "hour", hour // 24 in whole_days) for hour in made]
    stored += [Stored(day * DAY_MS, "day", False) for day in whole_days]
    held: list[int] = []
    chosen = choose(stored, step_ms)
    assert [one.start_ms for one in chosen] == sorted(one.start_ms for one in chosen)
    for one in chosen:
        assert SPAN_MS[one.level] <= step_ms
        inside = {m for m in minutes if one.start_ms <= m * MINUTE_MS < one.start_ms + SPAN_MS[one.level]}
        if one.level == "hour":
            inside &= {m for m in minutes if m // 60 in made}
        elif one.level == "day":
            inside &= {m for m in minutes if m // 60 in made and m // 1_440 in whole_days}
        held += inside
    assert sorted(held) == sorted(minutes)


@pytest.mark.parametrize(
    ("text", "expected_ms"), [("90s", 90_000), ("15m", 900_000), ("24h", DAY_MS), ("7d", 7 * DAY_MS)]
)
def test_since(text: str, expected_ms: int) -> None:
    assert parse_since(text) == expected_ms


@pytest.mark.parametrize("text", ["", "0m", "1", "-1h", "1w", "1.5h", "١h", "1h ", "99999999d"])
def test_what_is_no_since(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_since(text)


def test_a_timeline_measures_as_a_comparison_does() -> None:
    reference = profile(features=5, bins=6)
    bins = [Bins(tensor) for tensor in reference.tensors]
    for rows in (normal(300, 1, 5, 0.7), np.array([[np.nan, np.inf, -np.inf, 9.0, 0.1]])):
        counted = make.sketches(reference)
        make.count(counted, rows)
        point = time_point(NOON_MS, NOON_MS + MINUTE_MS, len(rows), bins, counted)
        compared = [
            one
            for tensor, sketch in zip(reference.tensors, counted, strict=True)
            for one in compare(tensor, sketch)
        ]
        assert list(point.psi) == [one.distances["psi"] for one in compared]
        assert list(point.missing_share) == [one.live.missing / one.live.rows for one in compared]
    empty = time_point(NOON_MS, NOON_MS + MINUTE_MS, 0, bins, make.sketches(reference))
    assert (empty.psi, empty.missing_share) == ((None,) * 6, (None,) * 6)


def test_a_report(store: Store, clock: Clock) -> None:
    calm, wild = normal(200, 1), normal(200, 2)
    wild[:, 1] += 3.0
    wild[:20, 1] = np.nan
    clock.now_ms = NOON_MS - 30 * MINUTE_MS
    store.take_in([snapshot(1, [delta(REFERENCE, calm)], to_ms=clock.now_ms, profiles=(REFERENCE,))])
    clock.now_ms = NOON_MS
    store.take_in([snapshot(2, [delta(REFERENCE, wild)], to_ms=NOON_MS)])
    span = span_until(NOON_MS, HOUR_MS, ControlOptions())
    report = Summaries(store.database, store.profiles).report("m", 1, span, ("champion",))
    assert (report.rows, report.reference_rows, report.profile) == (400, 100, REFERENCE.digest())
    assert report.aliases == ("champion",) and report.source == "data"
    psi = [one.distances["psi"] or 0.0 for one in report.features]
    assert psi == sorted(psi, reverse=True) and {one.feature for one in report.features} == {
        "x0",
        "x1",
        "carrier",
    }
    assert sum(point.rows for point in report.timeline) == 400
    with_rows = [point for point in report.timeline if point.rows]
    assert [point.rows for point in with_rows] == [200, 200]
    counted = make.sketches(REFERENCE)
    make.count(counted, wild)
    compared = [compare(*both) for both in zip(REFERENCE.tensors, counted, strict=True)]
    wanted = {
        one.feature: (one.distances["psi"], one.live.missing / 200) for each in compared for one in each
    }
    assert [wanted[one.feature] for one in report.features] == list(
        zip(with_rows[1].psi, with_rows[1].missing_share, strict=True)
    )
    assert wanted["x1"][1] == 0.1 and report.features[0].feature == "carrier"
    assert report.timeline[0].start == report.start and report.timeline[-1].end == report.end
    assert all(point.psi == (None,) * 3 for point in report.timeline if not point.rows)


def test_a_report_is_of_the_profile_that_rows_were_last_counted_against(store: Store, clock: Clock) -> None:
    """Also where both were used in one minute, whichever digest comes first."""
    summaries, span = (
        Summaries(store.database, store.profiles),
        span_until(NOON_MS, HOUR_MS, ControlOptions()),
    )
    for number, salt in enumerate("abcd", 1):
        reference = profile(salt=salt)
        clock.now_ms = NOON_MS + number
        row = delta(reference, normal(number))
        store.take_in([snapshot(number, [row], to_ms=clock.now_ms, profiles=(reference,))])
        report = summaries.report("m", 1, span)
        assert (report.profile, report.rows) == (reference.digest(), number)


def test_a_clock_that_was_ahead_keeps_no_report_from_a_new_profile(store: Store, clock: Clock) -> None:
    old, new = profile(salt="old"), profile(salt="new")
    clock.now_ms += DAY_MS
    ahead = delta(old, normal(10))
    store.take_in([snapshot(1, [ahead], profiles=(old,), to_ms=clock.now_ms)])
    clock.now_ms -= DAY_MS
    summaries, span = (
        Summaries(store.database, store.profiles),
        (clock.now_ms - HOUR_MS, clock.now_ms + MINUTE_MS),
    )
    assert summaries.live("m", 1, *span).digest == old.digest()
    store.take_in([snapshot(2, [delta(new, normal(5))], profiles=(new,), to_ms=clock.now_ms + 30_000)])
    live = summaries.live("m", 1, *span)
    assert (live.digest, live.rows) == (new.digest(), 5)
    assert summaries.by_count("m", 1, 10, clock()).profile == new.digest()


def test_windows_by_number_of_rows(store: Store, clock: Clock) -> None:
    """The fixture's store closes a window at 100 rows; one snapshot is never torn apart."""
    numbers, carrier = REFERENCE.tensors
    output = carrier.model_copy(update={"role": "output"})
    reference = REFERENCE.model_copy(update={"tensors": (numbers, output)})
    sizes = [60, 60, 250, 30]
    for number, size in enumerate(sizes, 1):
        clock.now_ms = NOON_MS + number * 1_000
        rows = normal(size, number)
        rows[:, 1] += 3.0 if number == 3 else 0.0
        store.take_in([snapshot(number, [delta(reference, rows)], to_ms=clock.now_ms, profiles=(reference,))])
    found = Summaries(store.database, store.profiles).by_count("m", 1, 10, clock())
    assert (found.profile, found.features) == (reference.digest(), ("x0", "x1", "output:carrier"))
    assert [one.rows for one in found.windows] == [120, 250, 30]
    calm, wild, filling = (one.psi[1] or 0.0 for one in found.windows)
    assert max(abs(calm), abs(filling)) < 0.5 < wild
    assert all(before.end <= after.start for before, after in pairwise(found.windows))
    last = Summaries(store.database, store.profiles).by_count("m", 1, 2, clock())
    assert last.windows == found.windows[1:]


@pytest.mark.parametrize("whole_tensors", [0, 1])
def test_a_window_by_count_that_cannot_be_read_is_left_out(
    store: Store, clock: Clock, whole_tensors: int
) -> None:
    for number, size in enumerate((100, 101, 102), 1):
        clock.now_ms = NOON_MS + number * 1_000
        rows = delta(REFERENCE, normal(size, number))
        store.take_in([snapshot(number, [rows], to_ms=clock.now_ms, profiles=(REFERENCE,))])
    summaries = Summaries(store.database, store.profiles)
    whole = summaries.by_count("m", 1, 10, clock()).windows
    damaged = pack([*make.states(REFERENCE, normal(101))[:whole_tensors], b"rubbish"])
    with store.housekeeping() as connection:
        connection.execute(update(windows).where(windows.c.rows == 101).values(state=damaged))
    assert summaries.by_count("m", 1, 10, clock()).windows == (whole[0], whole[2])
    with store.housekeeping() as connection:
        connection.execute(update(windows).where(windows.c.level == "minute").values(state=damaged))
    assert summaries.live("m", 1, NOON_MS, NOON_MS + MINUTE_MS).rows == 0


def test_a_version_whose_rows_are_still_to_come(store: Store, clock: Clock) -> None:
    """Its profiles have come, another one that its worker tells of is wanted first."""
    other, older, of_5 = (profile(salt=salt) for salt in ("other", "older", "of another version"))
    for source, reference in enumerate((older, REFERENCE)):
        both = [delta(reference, normal(5), version=4), delta(other, normal(5), "n")]
        one = snapshot(1, both, incarnation=source, worker=source, profiles=(reference,))
        assert store.take_in([one]).answers[0].wanted == (other.digest(),)
        clock.now_ms += 1
    rows = delta(of_5, normal(5), version=5)
    store.take_in([snapshot(1, [rows], incarnation=5, worker=5, profiles=(of_5,))])
    span = span_until(NOON_MS, HOUR_MS, ControlOptions())
    report = Summaries(store.database, store.profiles).report("m", 4, span)
    assert (report.profile, report.rows) == (REFERENCE.digest(), 0)


def test_rows_whose_profile_is_gone_have_no_report(store: Store) -> None:
    store.take_in([snapshot(1, [delta(REFERENCE, normal(5))], profiles=(REFERENCE,))])
    with store.housekeeping() as connection:
        connection.execute(delete_from(profiles))
    span = span_until(NOON_MS, HOUR_MS, ControlOptions())
    with pytest.raises(ProfileUnavailable):
        Summaries(store.database, Profiles()).report("m", 1, span)


def test_sliding_spans_end_now(open_store: Callable[[ControlOptions], Store], clock: Clock) -> None:
    """A row every hour for ten days: each span holds as many as it has hours."""
    options = ControlOptions()
    store = open_store(options)
    rollup = Rollup(store, options)
    row = delta(REFERENCE, normal(1))
    for hour in range(240):
        clock.now_ms = NOON_MS + hour * HOUR_MS + 30 * MINUTE_MS
        store.take_in([snapshot(hour + 1, [row], to_ms=clock.now_ms, profiles=(REFERENCE,))])
        if hour % 6 == 5:
            roll_up(rollup, clock.now_ms)
            rollup.forget(clock.now_ms, set())
    summaries = Summaries(store.database, store.profiles)
    clock.now_ms += 60_000
    for since_ms, least, most in [
        (HOUR_MS, 1, 1),
        (24 * HOUR_MS, 24, 24),
        (7 * DAY_MS, 168, 169),
        (9 * DAY_MS, 216, 240),
    ]:
        span = span_until(clock.now_ms, since_ms, options)
        report = summaries.report("m", 1, span)
        assert least <= report.rows <= most, since_ms
        assert sum(point.rows for point in report.timeline) == report.rows
        assert len(report.timeline) <= MAX_POINTS
        assert max(point.rows for point in report.timeline) == max(span.step_ms // HOUR_MS, 1)
        assert (report.timeline[0].start, report.timeline[-1].end) == (report.start, report.end)


def test_a_version_that_nobody_watched(store: Store) -> None:
    summaries = Summaries(store.database, store.profiles)
    with pytest.raises(NotWatched, match="no rows of model 'm' version 7"):
        summaries.report("m", 7, span_until(NOON_MS, HOUR_MS, ControlOptions()))
