"""What the store remembers of the database: the same as reading it anew, and nothing once a commit failed."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from fastserve.controlplane import committed
from fastserve.controlplane.committed import Key
from fastserve.controlplane.database import open_database
from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.group import Group
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.rollup import Rollup
from fastserve.controlplane.spans import DAY_MS, MINUTE_MS
from fastserve.controlplane.store import Store
from fastserve.controlplane.tables import metadata
from fastserve.monitoring.snapshot import Snapshot
from tests.controlplane.snapshots import Clock, delta, normal, profile, roll_up, snapshot

REFERENCE = profile()
OPTIONS = ControlOptions(count_window_rows=100)

Step = tuple[str, int, int]
"""What happens, of which worker or version, and how many minutes go by before it."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "late", "again", "replace", "locked", "broken", "roll", "forget"]),
        st.integers(0, 2),
        st.sampled_from([0, 0, 0, 1, 90, 9 * DAY_MS // MINUTE_MS]),
    ),
    min_size=5,
    max_size=25,
)


class Scene:
    """One store in a file of its own, fed by a few workers."""

    def __init__(self, path: Path, remembers: bool) -> None:
        self.path = path
        self.clock = Clock()
        self.remembers = remembers
        self.database = open_database(f"sqlite:///{path}", busy_timeout_s=0.01)
        self.store = Store(self.database, OPTIONS, Profiles(), self.clock)
        self.store.prepare()
        self.rollup = Rollup(self.store, OPTIONS)
        self.sent: dict[int, Snapshot] = {}
        self.numbers: dict[int, int] = {}
        self.incarnations = {worker: worker for worker in range(3)}
        self.said: list[Any] = []

    def play(self, step: Step) -> None:
        what, which, minutes = step
        self.clock.now_ms += minutes * MINUTE_MS
        if not self.remembers:
            self.store._committed.clear()
        if what == "replace":
            self.incarnations[which] += 3
            self.numbers[which] = 0
        elif what == "roll":
            roll_up(self.rollup, self.clock.now_ms)
        elif what == "forget":
            self.rollup.forget(self.clock.now_ms, set())
        elif what == "locked":
            self._send_locked(self._next(which))
        elif what == "broken":
            self._send_broken(self._next(which))
        elif what != "again":
            self._send(self._next(which, 90 * MINUTE_MS if what == "late" else 0))
        elif which in self.sent:
            self._send(self.sent[which])

    def _next(self, worker: int, late_ms: int = 0) -> Snapshot:
        number = self.numbers[worker] = self.numbers.get(worker, 0) + 1
        rows = normal(30, self.clock.now_ms % 1_000 + number)
        made = snapshot(
            number,
            [delta(REFERENCE, rows, version=1 + number % 2)],
            incarnation=self.incarnations[worker],
            worker=worker,
            to_ms=self.clock.now_ms - late_ms,
            profiles=(REFERENCE,),
        )
        self.sent[worker] = made
        return made

    def _send(self, one: Snapshot) -> None:
        taken = self.store.take_in([one])
        self.said.append((taken.answers, taken.totals, taken.all_totals, taken.workers, taken.watched))

    def _send_locked(self, one: Snapshot) -> None:
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            self.store.take_in([one])
        other.execute("ROLLBACK")
        other.close()

    def _send_broken(self, one: Snapshot) -> None:
        """The disk fails when everything is written but the last table."""

        def fail(_: Any, __: Any, statement: str, *___: Any) -> None:
            if "workers" in statement and not statement.startswith("SELECT"):
                raise OperationalError(statement, {}, sqlite3.OperationalError("disk I/O error"))

        event.listen(self.database.engine, "before_cursor_execute", fail)
        with pytest.raises(StoreUnavailable):
            self.store.take_in([one])
        event.remove(self.database.engine, "before_cursor_execute", fail)

    def rows(self) -> dict[str, list[Any]]:
        """Everything that the database holds."""
        with self.database.reading() as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(select(table))))
                for table in metadata.sorted_tables
            }


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
@example([("send", 0, 0), ("roll", 0, 90), ("late", 0, 0), ("roll", 0, 0)])
@example([("send", 0, 0), ("send", 1, 9 * DAY_MS // MINUTE_MS), ("forget", 0, 0), ("again", 0, 0)])
def test_to_remember_is_to_read_anew(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    folder: Path = tmp_path_factory.mktemp("committed")
    scenes = [Scene(folder / "one.db", True), Scene(folder / "two.db", False)]
    for step in steps:
        for scene in scenes:
            scene.play(step)
    assert scenes[0].said == scenes[1].said
    assert scenes[0].rows() == scenes[1].rows()
    for scene in scenes:
        scene.database.close()


def count_reads(store: Store) -> list[str]:
    """A list that every SELECT of the store is added to."""
    found: list[str] = []

    @event.listens_for(store.database.writer, "before_cursor_execute")
    def _note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("SELECT"):
            found.append(statement)

    return found


def send(store: Store, number: int, rows: int = 10) -> None:
    store.take_in([snapshot(number, [delta(REFERENCE, normal(rows, number))], profiles=(REFERENCE,))])


def test_what_was_written_is_not_read(open_store: Callable[[ControlOptions], Store]) -> None:
    store = open_store(OPTIONS)
    for number in (1, 2):
        send(store, number)
    reads = count_reads(store)
    send(store, 3)
    assert reads == []
    with store.housekeeping():
        pass
    send(store, 4)
    assert len(reads) == 6


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_another_wrote_meanwhile_is_seen(url: str, clock: Clock) -> None:
    one, two = (Store(open_database(url), OPTIONS, Profiles(), clock) for _ in range(2))
    one.prepare()
    first, second, third = (
        snapshot(number, [delta(REFERENCE, normal(rows))], profiles=(REFERENCE,))
        for number, rows in ((1, 10), (2, 5), (3, 1))
    )
    one.take_in([first])
    one.database.close()
    two.prepare()
    two.take_in([second])
    two.database.close()
    taken = one.take_in([second, third])
    assert taken.all_totals and taken.totals["m", 1].watched_rows == 16
    one.database.close()


def test_postgresql_is_remembered_too(shared_url: str, clock: Clock) -> None:
    store = Store(open_database(shared_url), OPTIONS, Profiles(), clock)
    store.prepare()
    for number in (1, 2):
        send(store, number)
    reads = count_reads(store)
    send(store, 3)
    assert reads == []
    store.database.close()


def test_totals_that_others_look_at_stay_as_they_are(store: Store) -> None:
    first = store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    shown = first.totals["m", 1]
    send(store, 2)
    assert shown.watched_rows == 10 and shown.codes == {"200": 10}


def test_an_error_that_nobody_thought_of_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Group) -> None:
        raise ValueError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(Group, "write", fail)
        with pytest.raises(ValueError, match="odd"):
            send(store, 1)
    send(store, 1)
    assert store.load().totals["m", 1].watched_rows == 10


def test_memory_is_bounded(
    open_store: Callable[[ControlOptions], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(OPTIONS)
    send(store, 1)
    assert store._committed.by_time
    monkeypatch.setattr(committed, "_MAX_BYTES", 100)
    send(store, 2)
    assert not store._committed.by_time and not store._committed.numbers
    monkeypatch.setattr(committed, "_MAX_BYTES", 2**20)
    send(store, 3)
    assert len(store._committed.by_count[Key("m", 1, REFERENCE.digest())]) == 1
    for number in range(4, 30):
        send(store, number)
    assert len(store._committed.by_count[Key("m", 1, REFERENCE.digest())]) == 1
    monkeypatch.setattr(committed, "_MAX_WINDOWS", 1)
    send(store, 30)
    assert not store._committed.by_time
    assert store.load().totals["m", 1].watched_rows == 300
