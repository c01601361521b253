"""Many rows at once: written by statements that are built once, and asked for in parts."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

_AT_ONCE = 200
"""Rows that one query asks for by their keys: parameters are few, and windows large."""


def write_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, columns by name, each in the place of the one with its primary key where there is one."""
    if rows:
        connection.execute(_insert_or_replace(table, connection.dialect.name), rows)


@cache
def _insert_or_replace(table: Table, dialect: str) -> Insert:
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    others = {column.name: insert.excluded[column.name] for column in table.c if not column.primary_key}
    made: Insert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=others)
    return made


def in_parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut keys to ask for into what one query may name."""
    for at in range(0, len(keys), _AT_ONCE):
        yield keys[at : at + _AT_ONCE]
