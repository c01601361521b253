"""One control plane writes to a PostgreSQL database at a time; others stand by and take over."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from fastserve.controlplane.database import Database, open_database
from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.store import Store
from fastserve.monitoring.snapshot import VersionNow
from tests.controlplane.conftest import Cluster
from tests.controlplane.processes import ControlProcess, control_process
from tests.controlplane.snapshots import Clock, delta, normal, profile, snapshot
from tests.waiting import until

REFERENCE = profile()


def rows(number: int, count: int) -> bytes:
    now = [VersionNow(model="m", version=1, state="READY")]
    return snapshot(number, [delta(REFERENCE, normal(count))], profiles=(REFERENCE,), now=now).to_bytes()


def make_store(database: Database, clock: Clock) -> Store:
    return Store(database, ControlOptions(), Profiles(), clock)


def drop_connections(url: str) -> None:
    """What a firewall or an administrator does to a connection."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_the_second_waits_and_takes_over(cluster: Cluster, clock: Clock) -> None:
    url = cluster.new_database()
    one, two = (make_store(open_database(url), clock) for _ in range(2))
    one.prepare()
    first = snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))
    one.take_in([first])
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="another control plane works on it"):
            two.prepare()
    one.database.close()
    two.prepare()
    assert two.load().totals["m", 1].watched_rows == 10
    two.database.close()


def test_who_lost_its_connection_writes_nothing_while_another_does(cluster: Cluster, clock: Clock) -> None:
    url = cluster.new_database()
    one, two = (make_store(open_database(url), clock) for _ in range(2))
    one.prepare()
    snapshots = [
        snapshot(number, [delta(REFERENCE, normal(number))], profiles=(REFERENCE,)) for number in (1, 2, 3)
    ]
    one.take_in([snapshots[0]])
    drop_connections(url)
    two.prepare()
    two.take_in([snapshots[1]])
    with pytest.raises(StoreUnavailable, match="another control plane works on it"):
        one.take_in([snapshots[1]])
    two.database.close()
    taken = one.take_in([snapshots[1], snapshots[2]])
    assert taken.all_totals and taken.totals["m", 1].watched_rows == 1 + 2 + 3
    one.database.close()


def test_a_dropped_connection_is_made_again(cluster: Cluster, clock: Clock) -> None:
    url = cluster.new_database()
    store = make_store(open_database(url), clock)
    store.prepare()
    store.take_in([snapshot(1, [delta(REFERENCE, normal(10))], profiles=(REFERENCE,))])
    drop_connections(url)
    taken = store.take_in([snapshot(2, [delta(REFERENCE, normal(5))])])
    assert taken.all_totals and taken.totals["m", 1].watched_rows == 15
    store.database.close()


@contextmanager
def two_of_them(url: str, tmp_path: Path) -> Iterator[tuple[ControlProcess, ControlProcess]]:
    """One that works on a database, and one that stands by, which the test stops."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with control_process(first, database=url) as one:
        other = ControlProcess(second, {"database": url})
        until(lambda: "another control plane works on it; trying again" in other.log.read_text())
        yield one, other


def test_a_killed_one_is_followed_by_the_one_that_stood_by(cluster: Cluster, tmp_path: Path) -> None:
    with two_of_them(cluster.new_database(), tmp_path) as (one, other):
        assert one.post(rows(1, 3))[0] == 200
        health = other.request("GET", "/v2/control/health")
        assert health.status == 503 and b"another control plane works on it" in health.body
        assert other.request("GET", "/v2/control/models").status == 503
        assert other.post(rows(2, 4))[0] == 503
        one.stop(signal.SIGKILL)
        until(lambda: other.request("GET", "/v2/control/health").status == 200)
        assert "the database can be had now" in other.log.read_text()
        assert other.post(rows(1, 3))[0] == 200
        assert other.post(rows(2, 4))[0] == 200
        assert b'code="200"} 7' in other.request("GET", "/metrics").body
        assert other.log.read_text().count("another control plane works on it") == 1
        assert other.stop() == 0


def test_who_lost_its_place_takes_it_again_though_nobody_sends(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.new_database()
    with two_of_them(url, tmp_path) as (one, other):
        drop_connections(url)
        until(lambda: other.request("GET", "/v2/control/health").status == 200)
        assert one.post(rows(1, 3))[0] == 503
        health = one.request("GET", "/v2/control/health")
        assert health.status == 503 and b"another control plane works on it" in health.body
        assert other.stop() == 0
        one.wait_ready()
        assert one.post(rows(1, 3))[0] == 200
