"""When the database cannot: nothing is counted twice, nothing is lost, and it goes on when it is back."""

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text

from fastserve.controlplane import database as database_module
from fastserve.controlplane.database import Database, check_url, only_one, open_database
from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.store import Store
from fastserve.controlplane.tables import profiles
from fastserve.errors import ConfigError
from tests.controlplane.conftest import Cluster
from tests.controlplane.snapshots import Clock, delta, normal, profile, snapshot

REFERENCE = profile()
WIDE = profile(features=400, bins=16)


def make_store(database: Database) -> Store:
    store = Store(database, ControlOptions(), Profiles(), Clock())
    store.prepare()
    return store


def test_a_locked_database(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'a.db'}", busy_timeout_s=0.05)
    store = make_store(database)
    one = snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.take_in([one])
    other.execute("ROLLBACK")
    other.close()
    taken = store.take_in([one])
    assert taken.totals["m", 1].codes == {"200": 10} and taken.all_totals
    database.close()


def test_a_locked_table(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads waits no longer than who writes."""
    monkeypatch.setattr(database_module, "_SESSION", "SET lock_timeout = '100ms'")
    database = open_database(shared_url)
    store = make_store(database)
    store.load()  # what a connection was told outlasts its first transaction
    other = create_engine(shared_url)
    with other.begin() as connection:
        connection.execute(text("LOCK TABLE totals IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            store.load()
    store.load()
    other.dispose()
    database.close()


def test_a_damaged_file_that_is_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    file.write_bytes(b"SQLite format 3\0" + b"garbage " * 1_000)
    database = open_database(f"sqlite:///{file}")
    store = Store(database, ControlOptions(), Profiles(), Clock())
    with pytest.raises(StoreUnavailable):
        store.prepare()
    for path in tmp_path.glob("a.db*"):
        path.unlink()
    store.prepare()
    assert file.is_file()
    assert store.load().totals == {}
    database.close()


def test_a_full_disk(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    store = make_store(database)
    limit = [40]

    @event.listens_for(database.engine, "checkout")
    def _limit(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={limit[0]}").fetchall()

    database.engine.dispose()
    number = 0
    with pytest.raises(StoreUnavailable, match="full"):  # noqa: PT012 - which one fails is the disk's choice
        for number in range(1, 100):
            rows = delta(WIDE, normal(50, number, 400), version=number)
            store.take_in([snapshot(number, [rows], profiles=(WIDE,))])
    before = store.load().totals
    assert before.keys() == {("m", version) for version in range(1, number)}
    limit[0] = 100_000
    rows = delta(WIDE, normal(50, number, 400), version=number)
    taken = store.take_in([snapshot(number, [rows], profiles=(WIDE,))])
    assert taken.totals.keys() == {("m", version) for version in range(1, number + 1)}
    database.close()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_taken_away_is_begun_anew(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.db"
    database = open_database(f"sqlite:///{file}")
    store = make_store(database)
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    for name in ("a.db", "a.db-wal", "a.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    if how == "replaced":
        file.touch()
    second = snapshot(2, [delta(REFERENCE, normal(5))])
    answer = store.take_in([second])
    assert answer.answers[0].wanted == (REFERENCE.digest(),) and answer.all_totals
    second = snapshot(2, [delta(REFERENCE, normal(5))], profiles=(REFERENCE,))
    assert store.take_in([second]).totals["m", 1].watched_rows == 5
    database.close()
    assert caplog.text.count("the database was taken away") == 1
    again = open_database(f"sqlite:///{file}")
    assert make_store(again).load().totals["m", 1].watched_rows == 5
    assert file.stat().st_mode & 0o777 == 0o600
    again.close()


def test_pages_of_a_file_that_is_taken_away_are_not_given_back(tmp_path: Path) -> None:
    """A connection of its own would make another file, which everybody may read, and its log."""
    database = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    make_store(database)
    database.engine.dispose()
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StoreUnavailable, match="taken away"):
        database.shrink(10)
    assert list(tmp_path.iterdir()) == []


def test_a_backup_in_its_place_is_gone_on_with_as_it_is(tmp_path: Path) -> None:
    """What was written since lies in the log beside it, and does not belong to it."""
    file, backup = tmp_path / "a.db", tmp_path / "backup"
    database = open_database(f"sqlite:///{file}")
    store = make_store(database)
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    source, target = sqlite3.connect(file), sqlite3.connect(backup)
    source.backup(target)
    source.close()
    target.close()
    store.take_in([snapshot(2, [delta(REFERENCE, normal(20), version=2)])])
    backup.replace(file)
    with pytest.raises(StoreUnavailable, match="replaced"), database.reading():
        pass  # a connection of its own would have laid the log over it as well
    taken = store.take_in([snapshot(3, [delta(REFERENCE, normal(5))])])
    assert {version: one.watched_rows for version, one in taken.totals.items()} == {("m", 1): 15}
    database.close()
    with sqlite3.connect(file) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    other.close()


def test_a_log_that_came_with_the_file_in_its_place_is_kept(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    database, other = (open_database(f"sqlite:///{tmp_path / name}") for name in ("a.db", "other/a.db"))
    stores = make_store(database), make_store(other)
    for incarnation, store in enumerate(stores):
        store.take_in([snapshot(1, [delta(None, normal(10))], incarnation=incarnation)])
    for name in ("a.db-shm", "a.db-wal", "a.db"):
        (tmp_path / name).unlink()
    for name in ("a.db-wal", "a.db"):
        shutil.copy(tmp_path / "other" / name, tmp_path / name)
    taken = stores[0].take_in([snapshot(2, [delta(None, normal(5))], incarnation=0)])
    assert taken.totals["m", 1].codes == {"200": 15}
    other.close()
    database.close()


def test_a_new_file_that_cannot_be_begun_at_once_is_begun_later(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    database = open_database(f"sqlite:///{file}", busy_timeout_s=0.1)
    store = make_store(database)
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    for one in tmp_path.iterdir():
        one.unlink()
    file.mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be made or opened"):
        store.take_in([snapshot(2, [])])
    file.rmdir()
    other = sqlite3.connect(file, isolation_level=None)  # somebody holds it for a moment
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    second = snapshot(2, [delta(REFERENCE, normal(5))], profiles=(REFERENCE,))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="locked"):
            store.take_in([second])
    other.execute("ROLLBACK")
    other.close()
    assert store.take_in([second]).totals["m", 1].watched_rows == 5
    database.close()


def test_postgresql_restarted_in_the_middle(cluster: Cluster) -> None:
    database = open_database(cluster.new_database())
    store = make_store(database)
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    second = snapshot(2, [delta(REFERENCE, normal(5))])
    running = [cluster]

    @event.listens_for(database.writer, "commit")
    def _stop(_: Any) -> None:
        if running:
            running.pop()
            cluster.stop()

    try:
        with pytest.raises(StoreUnavailable):
            store.take_in([second])
        with pytest.raises(StoreUnavailable):
            store.take_in([second])
    finally:
        cluster.start()
    taken = store.take_in([second])
    assert taken.totals["m", 1].codes == {"200": 15} and taken.all_totals
    database.close()


def test_a_postgresql_database_that_was_made_anew(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    database = open_database(cluster.new_database())
    store = make_store(database)
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    with database.writing() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    second = snapshot(2, [delta(REFERENCE, normal(5))], profiles=(REFERENCE,))
    with pytest.raises(StoreUnavailable, match="does not exist"):
        store.take_in([second])
    taken = store.take_in([second])
    assert taken.totals["m", 1].watched_rows == 5 and taken.all_totals
    assert caplog.text.count("the database was taken away") == 1
    database.close()


def test_a_commit_that_nobody_heard_of(tmp_path: Path) -> None:
    """The commit happens and the connection breaks: the retry counts nothing, and totals are read anew."""
    database = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    store = make_store(database)
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    second = snapshot(2, [delta(REFERENCE, normal(5))])
    dialect: Any = database.engine.dialect
    real = dialect.do_commit

    def commit_and_break(connection: Any) -> None:
        dialect.do_commit = real
        real(connection)
        raise sqlite3.OperationalError("the connection broke")

    dialect.do_commit = commit_and_break
    with pytest.raises(StoreUnavailable, match="broke"):
        store.take_in([second])
    taken = store.take_in([second])
    assert taken.totals["m", 1].codes == {"200": 15}
    database.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///a.db?mode=ro", "needs a file"),
        ("sqlite:////nowhere/at/all.db", "cannot be made"),
        ("mysql://u:hush@h/d", "not supported"),
        ("hush hush", "not a database URL"),
        ("postgresql://u:a@hush@h/d", "written %40"),
        ("postgresql://u:a@hush/hush@h:5432/d", "written %40"),
    ],
)
def test_what_is_no_database(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        open_database(url)
    assert "hush" not in str(caught.value)


def test_what_is_no_file_is_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o640)
    held = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match="not a regular file"):
        open_database(f"sqlite:///{tmp_path}/pipe")
    assert (tmp_path / "pipe").stat().st_mode & 0o777 == 0o640
    assert os.listdir("/proc/self/fd") == held


@pytest.mark.parametrize("place", ["none", "file"])
def test_a_directory_that_is_not_there_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / place
    with (
        pytest.raises(ConfigError, match=f"there is no directory '{folder}'"),
        only_one(f"sqlite:///{folder}/a.db"),
    ):
        pass


def test_a_lock_that_cannot_be_made_in_a_directory_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.db.lock").symlink_to(tmp_path / "none" / "lock")
    with (
        pytest.raises(ConfigError, match=r"a\.db\.lock' cannot be made: No such file or directory"),
        only_one(f"sqlite:///{tmp_path}/a.db"),
    ):
        pass


def test_a_file_of_another_kind_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n1,2,3\n" * 10)
    with pytest.raises(ConfigError, match=r"rows\.csv' is no SQLite database"):
        check_url(f"sqlite:///{path}")
    path.write_bytes(b"")
    check_url(f"sqlite:///{path}")


def test_a_password_is_never_shown() -> None:
    database = open_database("postgresql+psycopg://u:hush@127.0.0.1:1/d")
    with pytest.raises(StoreUnavailable) as caught:
        make_store(database)
    assert "hush" not in str(caught.value) + repr(caught.value.__cause__)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"fastserve\[postgres\]"):
        open_database("postgresql+psycopg://u:hush@h/d")


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(0o644)
    database = open_database(f"sqlite:///{path}")
    make_store(database).take_in([snapshot(1, [delta(None, normal(1))])])
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2
    database.close()


def test_profiles_that_come_in_parts_are_kept(tmp_path: Path) -> None:
    """All of them need not fit into one snapshot."""
    database = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    store = make_store(database)
    references = [profile(salt=f"{place}") for place in range(3)]
    deltas = [delta(one, normal(10), model=f"m{place}") for place, one in enumerate(references)]
    wanted = {one.digest() for one in references}
    for one in references:
        (answer,) = store.take_in([snapshot(1, deltas, profiles=(one,))]).answers
        wanted.discard(one.digest())
        assert set(answer.wanted) == wanted
    totals = store.load().totals
    assert [totals[f"m{place}", 1].watched_rows for place in range(3)] == [10, 10, 10]
    database.close()


def test_a_damaged_profile_is_had_again_from_who_counts_against_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = profile(salt="another")
    database = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    make_store(database).take_in(
        [
            snapshot(
                1,
                [delta(REFERENCE, normal(10)), delta(other, normal(3), model="n")],
                profiles=(REFERENCE, other),
            )
        ]
    )
    with database.writing() as connection:
        connection.execute(
            profiles.update().where(profiles.c.digest == REFERENCE.digest()).values(content=b"rot")
        )
    store = make_store(database)  # which has none of them in memory
    store.load()
    group = [
        snapshot(2, [delta(REFERENCE, normal(5))]),
        snapshot(1, [delta(other, normal(4), model="n")], incarnation=7, worker=7),
    ]
    first, second = store.take_in(group).answers
    assert first.wanted == (REFERENCE.digest(),) and second.wanted == () and second.refused is None
    assert "is damaged" in caplog.text
    again = snapshot(2, [delta(REFERENCE, normal(5))], profiles=(REFERENCE,))
    assert store.take_in([again]).totals["m", 1].watched_rows == 15
    assert store.load().totals["n", 1].watched_rows == 7
    database.close()
