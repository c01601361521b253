"""Migrations from nothing to what the code uses, on both databases."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from fastserve.controlplane import schema
from fastserve.controlplane.database import Database, open_database
from fastserve.controlplane.migrations.env import VERSION_TABLE
from fastserve.controlplane.tables import metadata
from fastserve.errors import ConfigError


@pytest.fixture
def empty(new_url: str) -> Iterator[Database]:
    opened = open_database(new_url)
    yield opened
    opened.close()


def test_the_migrations_make_what_the_code_uses(empty: Database) -> None:
    schema.prepare(empty)
    with empty.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


def test_up_twice_and_down_again(empty: Database) -> None:
    for _ in range(2):
        schema.prepare(empty)
    with empty.writing() as connection:
        command.downgrade(schema.configuration(connection), "base")
    with empty.reading() as connection:
        assert inspect(connection).get_table_names() == [VERSION_TABLE]
    schema.prepare(empty)


def test_a_newer_database_is_refused(empty: Database) -> None:
    schema.prepare(empty)
    with empty.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"schema 9999.*newer release"):
        schema.prepare(empty)


def test_processes_that_start_at_once(new_url: str) -> None:
    together = threading.Barrier(4)

    def start(_: int) -> None:
        with contextlib.closing(open_database(new_url)) as database:
            together.wait()
            schema.prepare(database)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))


def test_a_failed_migration_leaves_nothing(empty: Database) -> None:
    with empty.writing() as connection:
        connection.execute(text("CREATE TABLE workers (id INTEGER)"))  # in the way of the last table
    with pytest.raises(Exception, match="workers"):
        schema.prepare(empty)
    with empty.reading() as connection:
        assert inspect(connection).get_table_names() == ["workers"]
