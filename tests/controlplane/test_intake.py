"""Group commit, and a fleet that is what is committed: on an event loop, with a writer that a test drives."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from fastserve.controlplane import intake
from fastserve.controlplane.database import open_database
from fastserve.controlplane.errors import NotWatched, StoreUnavailable
from fastserve.controlplane.fleet import Fleet, VersionTotals
from fastserve.controlplane.group import Answer
from fastserve.controlplane.intake import Intake
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.service import Control
from fastserve.controlplane.spans import DAY_MS
from fastserve.controlplane.states import pack
from fastserve.controlplane.store import Store, Taken
from fastserve.controlplane.tables import profiles, windows
from fastserve.monitoring.snapshot import MAX_SNAPSHOT_BYTES, Snapshot, VersionDelta, VersionNow
from fastserve.registry.state import ALIASES_FILE
from tests.controlplane.snapshots import NOON_MS, Clock, delta, normal, profile, snapshot, states

REFERENCE = profile()
NOW = [VersionNow(model="m", version=1, state="READY", profile=REFERENCE.digest())]


class Held:
    """A store that commits when a test says so."""

    def __init__(self, store: Store) -> None:
        self.groups: list[int] = []
        self.go = threading.Semaphore(0)
        self._store = store
        self.fail = False
        self.touches = 0

    def take_in(self, snapshots: list[Snapshot]) -> Taken:
        self.groups.append(len(snapshots))
        self.go.acquire()
        if self.fail:
            raise StoreUnavailable("it is off")
        return self._store.take_in(snapshots)

    def touch(self) -> None:
        self.touches += 1
        if self.fail:
            raise StoreUnavailable("it is still off")


class World:
    """An intake over a store, and a clock in s."""

    def __init__(self, store: Store, writer: ThreadPoolExecutor, answer_s: float) -> None:
        self.store = Held(store)
        self.fleet = Fleet()
        self.now_s = 0.0
        held: Any = self.store
        self.intake = Intake(held, self.fleet, writer, lambda: self.now_s, answer_s)


@pytest.fixture
def play(open_store: Callable[[ControlOptions], Store]) -> Callable[..., None]:
    def run(scene: Callable[[World], Coroutine[Any, Any, None]], answer_s: float = 10.0) -> None:
        async def main() -> None:
            with ThreadPoolExecutor(1) as writer:
                world = World(open_store(ControlOptions()), writer, answer_s)
                try:
                    await scene(world)
                finally:
                    world.store.go.release(100)

        asyncio.run(main())

    return run


def one(number: int, incarnation: int = 1, rows: int = 10) -> Snapshot:
    return snapshot(
        number, [delta(REFERENCE, normal(rows))], incarnation=incarnation, worker=incarnation, profiles=(REFERENCE,), now=NOW
    )  # fmt: skip


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_comes_during_a_commit_is_the_next_group(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_MAX_GROUP", 3)

    async def scene(world: World) -> None:
        other = one(1, 1)
        other.deltas[0].version = 2
        first = asyncio.create_task(world.intake.submit(other))
        await until(lambda: world.store.groups == [1])
        others = [asyncio.create_task(world.intake.submit(one(1, n))) for n in range(2, 8)]
        for _ in range(3):
            await asyncio.sleep(0)
        others.pop().cancel()  # who has gone by then is not in it
        assert world.fleet.totals == {}, "nothing is shown that is not committed"
        world.store.go.release()
        assert await first == Answer(1)
        world.store.go.release(2)
        await until(lambda: world.store.groups == [1, 3, 2])
        assert await asyncio.gather(*others) == [Answer(1)] * 5
        assert world.fleet.totals["m", 1].watched_rows == 50
        assert world.intake.watched == {("m", 1), ("m", 2)}
        assert len(world.fleet.workers) == 6

    play(scene)


def test_what_comes_soon_after_a_commit_is_one_group(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_PAUSE_S", 0.3)

    async def scene(world: World) -> None:
        world.store.go.release(100)
        await world.intake.submit(one(1, 1))
        others = []
        for incarnation in (2, 3, 4):
            others.append(asyncio.create_task(world.intake.submit(one(1, incarnation))))
            await asyncio.sleep(0.001)
        await asyncio.gather(*others)
        assert world.store.groups == [1, 3]

    play(scene)


def test_a_group_that_fails_changes_nothing(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        world.store.fail = True
        world.store.go.release(100)
        with pytest.raises(StoreUnavailable):
            await world.intake.submit(one(1))
        assert world.intake.trouble == "it is off" and world.fleet == Fleet()
        world.store.fail = False
        world.fleet.totals["n", 1] = VersionTotals()  # of a database that was taken away meanwhile
        await world.intake.submit(one(1))
        assert world.intake.trouble == "" and world.fleet.totals["m", 1].watched_rows == 10
        assert len(world.fleet.totals) == 1

    play(scene)


def test_what_waits_behind_a_group_that_fails_is_taken_in(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        world.store.fail = True
        gone = asyncio.create_task(world.intake.submit(one(1, 1)))
        await until(lambda: world.store.groups == [1])
        stays = asyncio.create_task(world.intake.submit(one(1, 2)))
        await asyncio.sleep(0)
        gone.cancel()
        world.store.go.release()
        await until(lambda: world.intake.trouble == "it is off")
        world.store.fail = False
        world.store.go.release()
        assert await stays == Answer(1)

    play(scene)


def test_a_database_that_was_away_is_looked_for_where_nobody_sends(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        world.store.fail = True
        world.now_s = 100.0
        asked = asyncio.create_task(world.intake.submit(one(1)))
        await until(lambda: world.store.groups == [1])
        async with asyncio.timeout(5):
            await world.intake.look()  # what is being committed will tell
        world.store.go.release(100)
        with pytest.raises(StoreUnavailable):
            await asked
        for after_s, fail, touches, trouble in [
            (2.9, True, 0, "it is off"),
            (3.0, True, 1, "it is still off"),
            (4.0, False, 2, ""),
            (5.0, False, 2, ""),
        ]:
            world.now_s, world.store.fail = 100.0 + after_s, fail
            await world.intake.look()
            assert (world.store.touches, world.intake.trouble) == (touches, trouble), after_s

    play(scene)


def test_a_database_that_never_answers(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await world.intake.submit(one(1))
        assert world.store.groups == [1], "the others wait no more"
        assert world.intake.trouble == "it does not answer"
        world.store.go.release(100)
        answer = None
        while answer is None:
            with contextlib.suppress(StoreUnavailable):
                answer = await world.intake.submit(one(1))
        assert answer == Answer(1)
        assert world.fleet.totals["m", 1].watched_rows == 10

    play(scene, answer_s=0.05)


def test_silent_workers_are_dropped(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        world.store.go.release(100)
        world.now_s = 1_000.0
        for incarnation, period_s in ((1, 1), (2, 30), (3, 3_600)):
            seldom = one(1, incarnation)
            seldom.from_ms = seldom.to_ms - period_s * 1_000
            await world.intake.submit(seldom)
        for after_s, left in [(9.0, 3), (11.0, 2), (89.0, 2), (91.0, 1), (179.0, 1), (181.0, 0)]:
            world.now_s = 1_000.0 + after_s
            world.intake.forget_silent()
            assert len(world.fleet.workers) == left, after_s

    play(scene)


def test_a_worker_that_is_heard_lives_although_nothing_is_taken_in(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        world.store.go.release(100)
        await world.intake.submit(one(1, 1))
        await world.intake.submit(one(1, 2))
        world.store.fail = True
        world.now_s = 9.0
        before = one(2, 2)
        before.incarnation = "f" * 32  # another process than the one that is shown in its place
        for said in (one(2, 1), before):
            with pytest.raises(StoreUnavailable):
                await world.intake.submit(said)
        world.now_s = 11.0
        world.intake.forget_silent()
        assert list(world.fleet.workers) == [("here", 1)]

    play(scene)


def test_who_goes_away_takes_no_answer_from_others(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        first = asyncio.create_task(world.intake.submit(one(1, 1)))
        await until(lambda: world.store.groups == [1])
        gone, stays = (asyncio.create_task(world.intake.submit(one(1, n))) for n in (2, 3))
        world.store.go.release()
        await until(lambda: world.store.groups == [1, 2])
        gone.cancel()
        await asyncio.sleep(0)
        world.store.go.release()
        assert (await first, await stays) == (Answer(1), Answer(1))
        assert len(world.fleet.workers) == 3, "what was committed counts, whoever hears of it"

    play(scene)


def test_waiting_snapshots_take_bounded_memory(play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        room = world.intake.room
        with room(4 * MAX_SNAPSHOT_BYTES), pytest.raises(StoreUnavailable), room(1):
            pass
        with room(MAX_SNAPSHOT_BYTES), room(3 * MAX_SNAPSHOT_BYTES):
            pass
        with room(5 * MAX_SNAPSHOT_BYTES):  # alone, whatever its size
            pass

    play(scene)


def test_a_control_plane_keeps_house(url: str, tmp_path: Path) -> None:
    """Totals, roll-up, drift and overview together; and all of it again after a restart."""
    clock = Clock()

    async def scene(first: bool) -> None:
        control = Control(ControlOptions(), tmp_path / "none", open_database(url), clock)
        await control.intake.prepare()
        assert control.intake.trouble == ""
        if first:
            await control.intake.submit(one(1))
        assert control.fleet.totals["m", 1].watched_rows == 10
        await control.keep_house()
        report = await control.report("m", None, None, DAY_MS)
        assert (report.version, report.rows, report.aliases) == (1, 10, ())
        assert [row["watched_rows"] for row in control.overview()] == [10]
        control.close()

    asyncio.run(scene(True))
    clock.now_ms += 5 * 3_600_000
    asyncio.run(scene(False))


def test_which_version_is_meant(tmp_path: Path) -> None:
    """The champion, else the newest that was watched, else the newest; and why there is nothing to tell."""
    unwatched = VersionNow(model="m", version=4, state="READY", unwatched="it has no profile")
    sent, clock = one(1), Clock()
    sent.deltas += [delta(REFERENCE, normal(5), version=2), delta(None, normal(3), version=3)]
    sent.deltas += [delta(None, normal(3), "n", version=version) for version in (5, 7)]
    sent.deltas.append(VersionDelta(model="", version=0, codes={"404": 1}))
    sent.now = [unwatched, VersionNow(model="n", version=7, state="READY")]
    for version in (1, 2, 3):
        (tmp_path / "m" / str(version)).mkdir(parents=True)
        (tmp_path / "m" / str(version) / "model.onnx").touch()

    async def scene() -> None:
        control = Control(ControlOptions(), tmp_path, open_database(f"sqlite:///{tmp_path}/a.db"), clock)
        with pytest.raises(StoreUnavailable, match="has not been read"):
            control.overview()
        with pytest.raises(StoreUnavailable, match="has not been read"):
            await control.report("m", None, None, DAY_MS)
        await control.intake.prepare()
        control.ready = True
        await control.intake.submit(sent)

        async def found(alias: str | None = None) -> tuple[int, int, tuple[str, ...]]:
            report = await control.report("m", None, alias, DAY_MS)
            return report.version, report.rows, report.aliases

        assert await found() == (2, 5, ())
        (tmp_path / "m" / ALIASES_FILE).write_text('{"champion": 1, "best": 1, "next": 2}')
        assert await found() == (1, 10, ("best", "champion"))
        assert await found("next") == (2, 5, ("next",))
        for model, version, why in [
            ("n", None, "version 7 were watched: nobody has asked"),
            ("m", 4, "version 4 were watched: it has no profile"),
            ("m", 3, "there is no such version"),
            ("o", None, "there is no such version"),
        ]:
            with pytest.raises(NotWatched, match=why):
                await control.by_count(model, version, None, 10)
        rows = {(one["model"], one["version"]): one for one in control.overview()}
        assert list(rows) == [("m", 1), ("m", 2), ("m", 3), ("m", 4), ("n", 5), ("n", 7)]
        assert [at for at, one in rows.items() if one["present"]] == [("m", 4), ("n", 7)]
        assert rows["m", 4]["unwatched"] == "it has no profile"
        clock.now_ms += 500 * DAY_MS
        await control.keep_house()
        assert control.fleet.totals.keys() == {("n", 7), ("", 0)}, "of others nobody asks any more"
        control.close()

    asyncio.run(scene())


def test_windows_whose_profile_is_gone_keep_no_others_from_being_summed_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, url, other = Clock(), f"sqlite:///{tmp_path}/a.db", profile(salt="other")
    both = [delta(REFERENCE, normal(10)), delta(other, normal(3), "n")]

    async def scene(first: bool) -> None:
        database = open_database(url)
        control = Control(ControlOptions(), tmp_path / "none", database, clock)
        await control.intake.prepare()
        if first:
            await control.intake.submit(snapshot(1, both, profiles=(REFERENCE, other)))
            with database.writing() as connection:
                connection.execute(profiles.delete().where(profiles.c.digest == REFERENCE.digest()))
        await control.keep_house()
        with database.reading() as connection:
            summed = select(windows.c.level, windows.c.model).where(windows.c.level.in_(("hour", "day")))
            found = {tuple(row) for row in connection.execute(summed)}
        assert found == (set() if first else {("hour", "n"), ("day", "n")})
        control.close()

    asyncio.run(scene(True))
    clock.now_ms += 2 * DAY_MS
    asyncio.run(scene(False))
    assert "one hour of model m is not summed up" in caplog.text


@pytest.mark.parametrize(
    ("state", "rows"),
    [(b"rubbish", 4), (pack([*states(REFERENCE, normal(10))[:1], b"rubbish"]), 14)],
    ids=["all of it", "the second tensor"],
)
def test_a_window_that_cannot_be_read_stops_nothing(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture, state: bytes, rows: int
) -> None:
    """It holds as many rows as the tensor that most of them are left of."""
    store.take_in([one(1)])
    with store.housekeeping() as connection:
        connection.execute(update(windows).values(state=state))
    taken = store.take_in([one(2, rows=4)])
    assert taken.answers == [Answer(2)]
    assert "cannot be read" in caplog.text
    with store.database.reading() as connection:
        found = connection.execute(text("SELECT level, rows FROM windows ORDER BY level")).all()
    assert [tuple(row) for row in found] == [("count", rows), ("minute", rows)]
    assert taken.totals["m", 1].watched_rows == 14
    assert clock.now_ms == NOON_MS
