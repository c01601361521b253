"""Whatever order parts come in, however they are grouped: the windows hold what one pass would have counted."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastserve.controlplane.database import open_database
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.rollup import Rollup
from fastserve.controlplane.spans import DAY_MS, HOUR_MS, MINUTE_MS
from fastserve.controlplane.store import Store
from fastserve.controlplane.summary import Live, Summaries
from fastserve.monitoring.snapshot import Snapshot
from tests.controlplane import snapshots as make
from tests.controlplane.snapshots import NOON_MS, Clock, delta, normal, profile, roll_up, snapshot

REFERENCE = profile()
MODELS = itertools.count()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Clock]]:
    path: Path = tmp_path_factory.mktemp("merging") / "control.db"
    database, clock = open_database(f"sqlite:///{path}"), Clock()
    store = Store(database, ControlOptions(), Profiles(), clock)
    store.prepare()
    yield store, clock
    database.close()


def assert_equal(live: Live, rows: make.Rows) -> None:
    whole = make.sketches(REFERENCE)
    make.count(whole, rows)
    assert live.rows == len(rows)
    for one, other in zip(live.sketches, whole, strict=True):
        assert one.rows == other.rows
        assert one.counts.tolist() == other.counts.tolist()
        assert one.missing.tolist() == other.missing.tolist()
    for name in ("minimum", "maximum"):
        assert getattr(live.sketches[0], name).tolist() == getattr(whole[0], name).tolist()
    for name in ("mean", "m2"):
        np.testing.assert_allclose(getattr(live.sketches[0], name), getattr(whole[0], name), rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=16),
    order=st.randoms(use_true_random=False),
    cuts=st.sets(st.integers(1, 15)),
)
def test_parts_make_up_the_whole(
    world: tuple[Store, Clock], sizes: list[int], order: object, cuts: set[int]
) -> None:
    store, _ = world
    name = f"m{next(MODELS)}"
    parts = [normal(size, seed) for seed, size in enumerate(sizes)]
    sent = [
        snapshot(
            1, [delta(REFERENCE, part, name)], incarnation=next(MODELS), worker=at, profiles=(REFERENCE,)
        )
        for at, part in enumerate(parts)
    ]
    order.shuffle(sent)  # type: ignore[attr-defined]
    bounds = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    for start, end in itertools.pairwise(bounds):
        store.take_in(sent[start:end])
    live = Summaries(store.database, store.profiles).live(name, 1, NOON_MS - HOUR_MS, NOON_MS + HOUR_MS)
    assert_equal(live, np.concatenate(parts))


@settings(max_examples=15, deadline=None)
@given(
    late_ms=st.lists(st.integers(0, 179 * MINUTE_MS), min_size=1, max_size=12),
    rolls=st.sets(st.integers(0, 11)),
    start_h=st.integers(0, 26),
)
@example(late_ms=[76 * MINUTE_MS, 120 * MINUTE_MS], rolls={0, 1}, start_h=23)  # an hour after its day
def test_late_minutes_reach_hours_and_days(
    world: tuple[Store, Clock], late_ms: list[int], rolls: set[int], start_h: int
) -> None:
    """Minutes that come in any order, with hours and days summed up in between, across midnight too."""
    store, clock = world
    name = f"m{next(MODELS)}"
    rollup = Rollup(store, ControlOptions())
    parts: list[make.Rows] = []
    clock.now_ms = NOON_MS // DAY_MS * DAY_MS + start_h * HOUR_MS + 59 * MINUTE_MS
    for at, late in enumerate(late_ms):
        clock.now_ms += 17 * MINUTE_MS
        parts.append(normal(5 + at, at))
        one: Snapshot = snapshot(
            1, [delta(REFERENCE, parts[-1], name)], incarnation=next(MODELS), to_ms=clock.now_ms - late, profiles=(REFERENCE,)
        )  # fmt: skip
        store.take_in([one])
        if at in rolls:
            roll_up(rollup, clock.now_ms)
    summaries = Summaries(store.database, store.profiles)
    whole = np.concatenate(parts)
    everything = (NOON_MS - 3 * DAY_MS, NOON_MS + 3 * DAY_MS)
    assert_equal(summaries.live(name, 1, *everything), whole)
    clock.now_ms += 2 * DAY_MS
    for level in ("hour", "day"):
        for key, start_ms in rollup.due(level, clock.now_ms):
            for _ in range(2):  # what is in it already is not added again
                rollup.roll(key, level, start_ms)
        assert rollup.due(level, clock.now_ms) == []
    assert_equal(summaries.live(name, 1, *everything), whole)
    # With the minutes and hours gone, the days alone say the same.
    rollup.forget(clock.now_ms + 12 * DAY_MS, set())
    assert_equal(summaries.live(name, 1, *everything), whole)
    clock.now_ms = NOON_MS
