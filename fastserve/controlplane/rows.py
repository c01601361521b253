"""Many rows at once: written by statements that are built once, and asked for in parts."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

from fastserve.controlplane.tables import sources, totals, windows, workers

T = TypeVar("T")

Row = dict[str, Any]
"""Every column of a table by name."""

Writing = dict[str, Insert]
"""How a table's rows are written, by the kind of database."""

_AT_ONCE = 200
"""Rows that one query asks for by their keys: parameters are few, and windows large."""


def _writing(table: Table) -> Writing:
    found: Writing = {}
    for dialect in (sqlite, postgresql):
        insert = dialect.insert(table)
        others = {column.name: insert.excluded[column.name] for column in table.c if not column.primary_key}
        found[dialect.dialect.name] = insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=others
        )
    return found


SOURCES = _writing(sources)
TOTALS = _writing(totals)
WINDOWS = _writing(windows)
WORKERS = _writing(workers)


def write_rows(connection: Connection, table: Writing, rows: Sequence[Row]) -> None:
    """Insert rows, each in the place of the one with its primary key where there is one."""
    if rows:
        connection.execute(table[connection.dialect.name], rows)


def in_parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut keys to ask for into what one query may name."""
    for at in range(0, len(keys), _AT_ONCE):
        yield keys[at : at + _AT_ONCE]
