"""Taking snapshots in: counted once, whole or not at all, wherever clocks stand; on both databases."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, event, select

from fastserve.controlplane.checking import MAX_VERSIONS
from fastserve.controlplane.database import Database
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.spans import HOUR_MS, MINUTE_MS
from fastserve.controlplane.states import unpack
from fastserve.controlplane.store import Store
from fastserve.controlplane.tables import windows
from fastserve.controlplane.totals import read_totals
from fastserve.monitoring.snapshot import HistogramDelta, VersionDelta, VersionNow
from tests.controlplane import snapshots as make
from tests.controlplane.snapshots import NOON_MS, Clock, delta, normal, profile, snapshot

REFERENCE = profile()


def stored(database: Database, level: str) -> list[Any]:
    with database.reading() as connection:
        query = select(windows).where(windows.c.level == level).order_by(windows.c.start_ms)
        return list(connection.execute(query))


def rows_of(state: bytes) -> list[int]:
    counted = make.sketches(REFERENCE)
    for sketch, each in zip(counted, unpack(state), strict=True):
        sketch.merge_bytes(each)
    return [sketch.rows for sketch in counted]


def test_what_comes_twice_is_counted_once(store: Store) -> None:
    first = snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))
    for _ in range(2):
        taken = store.take_in([first])
        assert [one.number for one in taken.answers] == [1]
        assert taken.answers[0].wanted == () and taken.answers[0].refused is None
    second, third = (snapshot(number, [delta(REFERENCE, normal(3))]) for number in (2, 3))
    store.take_in([third, first, second, first])
    with store.housekeeping():  # what is remembered is forgotten
        pass
    store.take_in([third])
    (minute,) = stored(store.database, "minute")
    assert minute.rows == 16 and rows_of(minute.state) == [16, 16]
    totals = store.load().totals["m", 1]
    assert totals.codes == {"200": 16} and totals.watched_rows == 16
    assert totals.histograms["total"] == HistogramDelta(buckets={3: 16}, total=16_000)


def test_sources_are_counted_apart(store: Store) -> None:
    for number in (1, 2):
        group = [
            snapshot(
                number,
                [delta(REFERENCE, normal(4, seed), version=1 + seed % 2)],
                incarnation=seed,
                worker=seed,
                profiles=(REFERENCE,),
            )
            for seed in range(5)
        ]
        taken = store.take_in(group)
        assert len(taken.workers) == 5 and taken.watched == {("m", 1), ("m", 2)}
    assert {one.version: one.rows for one in stored(store.database, "minute")} == {1: 24, 2: 16}


def test_a_profile_that_is_not_known_is_asked_for(store: Store) -> None:
    asking = snapshot(1, [delta(REFERENCE, normal(10))])
    taken = store.take_in([asking, snapshot(1, [delta(None, normal(3))], incarnation=2, worker=1)])
    assert taken.answers[0].wanted == (REFERENCE.digest(),)
    assert taken.answers[1].wanted == ()
    assert taken.totals["m", 1].codes == {"200": 3}, "nothing of the first is counted"
    assert stored(store.database, "minute") == []
    asking.profiles = {REFERENCE.digest(): REFERENCE.to_bytes()}
    other = snapshot(1, [delta(REFERENCE, normal(2))], incarnation=3, worker=3)
    assert [one.wanted for one in store.take_in([asking, other]).answers] == [(), ()]
    assert stored(store.database, "minute")[0].rows == 12


def test_a_profile_that_nothing_was_counted_against_is_not_asked_for(store: Store) -> None:
    one = VersionDelta(model="m", version=1, codes={"503": 1}, profile=REFERENCE.digest())
    taken = store.take_in([snapshot(1, [one])])
    assert taken.answers[0].wanted == () and taken.totals["m", 1].codes == {"503": 1}


def _other_sha(one: Any) -> None:
    one.profiles[REFERENCE.digest()] = profile(salt="another").to_bytes()


def _other_plan(one: Any) -> None:
    one.deltas[0].states = make.states(profile(bins=5), normal(10))


def _one_state_short(one: Any) -> None:
    one.deltas[0].states.pop()


def _cut_short(one: Any) -> None:
    one.deltas[0].states[0] = one.deltas[0].states[0][:-1]


def _without_profile(one: Any) -> None:
    one.deltas[0].profile = None


def _wrong_code(one: Any) -> None:
    one.deltas[0].codes = {"200 ": 1}


def _wrong_histogram(one: Any) -> None:
    one.deltas[0].histograms["x"] = HistogramDelta()


def _wrong_name(one: Any) -> None:
    one.deltas[0].model = "../m"


def _no_name(one: Any) -> None:
    one.deltas[0].model = ""


def _wrong_name_held(one: Any) -> None:
    one.now = [VersionNow(model="../m", version=1, state="READY")]


def _too_many_held(one: Any) -> None:
    one.now = [None] * (MAX_VERSIONS + 1)


def _wrong_host(one: Any) -> None:
    one.host = "a\x00b"


def _too_many_rows(one: Any) -> None:
    one.deltas.append(VersionDelta(model="n", version=1, watched_rows=2**60))


def _not_to_be_counted(one: Any) -> None:
    data = REFERENCE.to_bytes().replace(b'"AA"', b"0").replace(b'"DL"', b"%d" % 2**64)
    one.deltas[0].profile = hashlib.sha256(data).hexdigest()
    one.profiles = {one.deltas[0].profile: data}


def _too_many_versions(one: Any) -> None:
    one.deltas += [VersionDelta(model="n", version=n) for n in range(1, MAX_VERSIONS + 2)]


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_other_sha, "profiles"),
        (_not_to_be_counted, "profiles"),
        (_other_plan, "deltas.0.states"),
        (_one_state_short, "deltas.0.states"),
        (_cut_short, "deltas.0.states"),
        (_without_profile, "deltas.0.states"),
        (_wrong_code, "deltas.0.codes"),
        (_wrong_histogram, "deltas.0.histograms"),
        (_wrong_name, "deltas.0.model"),
        (_no_name, "deltas.0.model"),
        (_wrong_host, "host"),
        (_too_many_rows, "deltas.1.watched_rows"),
        (_too_many_versions, "deltas"),
        (_wrong_name_held, "now.0.model"),
        (_too_many_held, "now"),
    ],
)
def test_what_does_not_fit_is_refused_and_nobody_else(store: Store, spoil: Any, field: str) -> None:
    spoilt = snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))
    spoil(spoilt)
    good = [
        snapshot(1, [delta(REFERENCE, normal(7))], incarnation=n, worker=n, profiles=(REFERENCE,))
        for n in (2, 3)
    ]
    taken = store.take_in([good[0], spoilt, good[1]])
    refused = taken.answers[1].refused
    assert refused is not None and refused.field == field and str(refused)
    assert [taken.answers[at].refused for at in (0, 2)] == [None, None]
    assert stored(store.database, "minute")[0].rows == 14
    assert store.load().totals["m", 1].codes == {"200": 14}
    assert store.load().totals.keys() == {("m", 1)}


def test_as_many_versions_as_are_allowed(open_store: Callable[[ControlOptions], Store]) -> None:
    store = open_store(ControlOptions())
    many = [VersionDelta(model="n", version=n, codes={"200": 1}) for n in range(1, 5_001)]
    assert store.take_in([snapshot(1, many)]).answers[0].refused is None
    assert len(store.take_in([snapshot(2, many)]).totals) == 5_000
    assert {one.codes["200"] for one in store.load().totals.values()} == {2}


def test_more_versions_than_a_query_may_name(store: Store) -> None:
    many = [VersionDelta(model="n", version=n, codes={"200": 1}) for n in range(1, 2**15 + 1)]
    assert store.take_in([snapshot(1, many)]).answers[0].refused is None
    named = {("n", n) for n in range(500, 2**16)}
    queries: list[str] = []
    with store.database.reading() as connection:
        event.listen(connection, "before_cursor_execute", lambda *seen: queries.append(seen[2]))
        assert read_totals(connection, named).keys() == {("n", n) for n in range(500, 2**15 + 1)}
    assert sum("FROM totals" in one for one in queries) == 1  # each would read the whole table


def test_totals_of_some_versions_are_found_without_a_look_at_all_of_them(
    open_store: Callable[[ControlOptions], Store],
) -> None:
    explained: list[str] = []

    def explain(connection: Connection, _: object, statement: str, values: Any, *__: object) -> None:
        if "FROM totals" in statement and not statement.startswith("EXPLAIN"):
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            explained.extend(row.detail for row in plan)

    with open_store(ControlOptions()).database.reading() as connection:
        event.listen(connection, "before_cursor_execute", explain)
        assert read_totals(connection, {("m", 1), ("m", 2), ("n", 1)}) == {}
    assert any("SEARCH totals USING INDEX" in one for one in explained)
    assert not any("SCAN totals" in one for one in explained)


def test_rows_sums_stay_within_63_bits(store: Store) -> None:
    half = VersionDelta(model="n", version=1, watched_rows=2**37 + 1)
    assert store.take_in([snapshot(1, [half, half])]).answers[0].refused is not None
    huge = VersionDelta(model="n", version=1, watched_rows=2**38)
    assert store.take_in([snapshot(1, [huge])]).answers[0].refused is None
    assert store.take_in([snapshot(2, [huge])]).answers[0].refused is not None


def test_states_of_more_rows_than_a_window_may_have_are_refused(store: Store) -> None:
    one = delta(REFERENCE, normal(1))
    counted = make.sketches(REFERENCE)
    for place, sketch in enumerate(counted):
        sketch.merge_bytes(one.states[place])
        for _ in range(39):
            sketch.merge_bytes(sketch.to_bytes())
    one.states = [sketch.to_bytes() for sketch in counted]
    (answer,) = store.take_in([snapshot(1, [one], profiles=(REFERENCE,))]).answers
    assert answer.refused is not None and answer.refused.field == "deltas.0.states"


def test_a_batch_that_was_being_counted_is_not_counted_twice(store: Store) -> None:
    first, second = delta(REFERENCE, normal(20)), delta(REFERENCE, normal(10))
    first.states[0] = make.states(REFERENCE, normal(30))[0]
    second.states[0] = make.sketches(REFERENCE)[0].to_bytes()
    for number, one in enumerate((first, second), start=1):
        assert store.take_in([snapshot(number, [one], profiles=(REFERENCE,))]).answers[0].refused is None
    for level in ("minute", "count"):
        (found,) = stored(store.database, level)
        assert found.rows == 30 and rows_of(found.state) == [30, 30]


@pytest.mark.parametrize(
    ("shift_ms", "own_minute"),
    [
        (-3 * HOUR_MS, True),
        (-3 * HOUR_MS - 1, False),
        (MINUTE_MS, True),
        (MINUTE_MS + 1, False),
        (-400 * 24 * HOUR_MS, False),
        (2**55, False),
    ],
)
def test_clocks_that_are_off_lose_nothing(store: Store, shift_ms: int, own_minute: bool) -> None:
    to_ms = NOON_MS + shift_ms
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], to_ms=to_ms, profiles=(REFERENCE,))])
    (minute,) = stored(store.database, "minute")
    assert minute.rows == 10
    assert minute.start_ms == (to_ms if own_minute else NOON_MS) // MINUTE_MS * MINUTE_MS


def test_the_own_clock_set_back_loses_nothing(store: Store, clock: Clock) -> None:
    for number, back_ms in enumerate((0, 10 * HOUR_MS, 5 * MINUTE_MS), start=1):
        clock.now_ms = NOON_MS - back_ms
        taken = store.take_in(
            [snapshot(number, [delta(REFERENCE, normal(70, number))], to_ms=NOON_MS, profiles=(REFERENCE,))]
        )
        assert taken.answers[0].refused is None
    assert sum(one.rows for one in stored(store.database, "minute")) == 210
    assert sum(one.rows for one in stored(store.database, "count")) == 210


def test_windows_by_count_close_when_they_are_full(store: Store) -> None:
    for number in range(1, 8):
        store.take_in([snapshot(number, [delta(REFERENCE, normal(40, number))], profiles=(REFERENCE,))])
    found = stored(store.database, "count")
    assert [(one.rows, one.rolled) for one in found] == [(120, True), (120, True), (40, False)]
    assert [rows_of(one.state)[0] for one in found] == [120, 120, 40]


def test_rows_without_a_profile_are_counted_without_one(store: Store) -> None:
    bare = VersionDelta(model="m", version=1, watched_rows=9, profile="f" * 64)  # none that there is
    store.take_in([snapshot(1, [bare])])
    (minute,) = stored(store.database, "minute")
    assert (minute.profile, minute.rows, minute.state) == ("", 9, b"")


def test_requests_that_no_model_answered(store: Store) -> None:
    store.take_in([snapshot(1, [VersionDelta(model="", version=0, codes={"404": 2})])])
    assert store.load().totals["", 0].codes == {"404": 2}


def test_of_two_workers_with_one_name_the_one_that_stays_is_shown(store: Store, clock: Clock) -> None:
    def shown(number: int, incarnation: int) -> list[str]:
        taken = store.take_in([snapshot(number, [], incarnation=incarnation)])
        return [worker.incarnation for worker in taken.workers.values()]

    (first,), (second,) = shown(1, 1), shown(1, 2)
    assert shown(2, 1) == []
    clock.now_ms += 9_000
    assert shown(2, 2) == [second]
    clock.now_ms += 9_000
    assert shown(3, 1) == []
    clock.now_ms += 2_000
    assert shown(4, 1) == [first]
    assert shown(3, 2) == []
    clock.now_ms -= 11_000  # and nobody knows how long it is silent
    assert shown(4, 2) == [second]


def test_processor_time_of_a_place_only_grows(store: Store, clock: Clock) -> None:
    def cpu_s(number: int, incarnation: int, used_s: float) -> float:
        taken = store.take_in([snapshot(number, [], incarnation=incarnation, cpu_s=used_s)])
        (worker,) = taken.workers.values()
        return worker.cpu_before_s + worker.process.cpu_s

    assert cpu_s(1, 1, 5.0) == 5.0
    assert cpu_s(2, 1, 7.0) == 7.0
    assert cpu_s(1, 2, 0.5) == 7.5
    late = store.take_in([snapshot(3, [delta(None, normal(2))], incarnation=1, cpu_s=7.5)])
    assert late.workers == {} and late.totals["m", 1].codes == {"200": 2}
    assert cpu_s(2, 2, 1.0) == 8.0
    assert cpu_s(1, 3, 0.25) == 8.25
    clock.now_ms += 11_000
    assert cpu_s(3, 2, 1.5) == 8.25  # it is there again, and was counted before
    assert cpu_s(4, 2, 2.0) == 8.75


def test_who_reads_sees_one_state(store: Store) -> None:
    with store.database.reading() as connection:
        assert read_totals(connection) == {}
        store.take_in([snapshot(1, [delta(None, normal(1))])])
        assert read_totals(connection) == {}
    assert store.load().totals.keys() == {("m", 1)}


def test_totals_go_on_after_a_restart(store: Store, database: Database, clock: Clock) -> None:
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    again = Store(database, ControlOptions(), Profiles(), clock)
    again.prepare()
    before = again.load().totals
    assert dataclasses.asdict(before["m", 1])["codes"] == {"200": 10}
    again.take_in([snapshot(1, [delta(REFERENCE, normal(10))])])
    taken = again.take_in([snapshot(2, [delta(REFERENCE, normal(1))])])
    assert taken.totals["m", 1].codes == {"200": 11}


def test_totals_outgrow_64_bits(store: Store, database: Database, clock: Clock) -> None:
    most = 2**63 - 1
    for number in range(1, 5):
        one = delta(None, normal(1))
        one.histograms["total"] = HistogramDelta(buckets={3: most}, total=most)
        store.take_in([snapshot(number, [one])])
    again = Store(database, ControlOptions(), Profiles(), clock)
    for totals in (again.load().totals, again.take_in([snapshot(5, [delta(None, normal(1))])]).totals):
        histogram = totals["m", 1].histograms["total"]
        assert histogram.total - 4 * most in (0, 1_000) and histogram.buckets[3] - 4 * most in (0, 1)


def test_counts_of_a_window_are_those_of_its_rows(store: Store) -> None:
    parts = [normal(30, seed) for seed in range(4)]
    store.take_in(
        [
            snapshot(1, [delta(REFERENCE, part)], incarnation=at, worker=at, profiles=(REFERENCE,))
            for at, part in enumerate(parts)
        ]
    )
    (minute,) = stored(store.database, "minute")
    merged, whole = make.sketches(REFERENCE), make.sketches(REFERENCE)
    for sketch, state in zip(merged, unpack(minute.state), strict=True):
        sketch.merge_bytes(state)
    make.count(whole, np.concatenate(parts))
    for one, other in zip(merged, whole, strict=True):
        assert one.counts.tolist() == other.counts.tolist()
        assert one.missing.tolist() == other.missing.tolist()
