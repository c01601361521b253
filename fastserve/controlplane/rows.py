"""Many rows at once: inserts and updates by statements that are built once, and queries in parts."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, Table, Update, and_, bindparam, update

from fastserve.controlplane.tables import sources, totals, windows, workers

T = TypeVar("T")

Row = dict[str, Any]
"""Every column of a table by name."""

_AT_ONCE = 200
"""Rows that one query asks for by their keys: parameters are few, and windows large."""


@dataclass(frozen=True, slots=True)
class _Writing:
    """How a table's rows are written."""

    key: tuple[str, ...]
    insert: Insert
    update: Update


def _writing(table: Table) -> _Writing:
    # A parameter named as a column would set that column.
    key = tuple(column.name for column in table.primary_key)
    where = and_(*(table.c[name] == bindparam(f"at_{name}") for name in key))
    values: dict[str, Any] = {
        column.name: bindparam(column.name) for column in table.c if column.name not in key
    }
    return _Writing(key, table.insert(), update(table).where(where).values(values))


SOURCES = _writing(sources)
TOTALS = _writing(totals)
WINDOWS = _writing(windows)
WORKERS = _writing(workers)


def write_rows(
    connection: Connection, table: _Writing, rows: Iterable[Row], there: Collection[tuple[Any, ...]]
) -> None:
    """Insert rows, or update them where their primary key is `there`."""
    new: list[Row] = []
    old: list[Row] = []
    for row in rows:
        if tuple(row[name] for name in table.key) in there:
            old.append({f"at_{name}" if name in table.key else name: value for name, value in row.items()})
        else:
            new.append(row)
    if new:
        connection.execute(table.insert, new)
    if old:
        connection.execute(table.update, old)


def in_parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut keys to ask for into what one query may name."""
    for at in range(0, len(keys), _AT_ONCE):
        yield keys[at : at + _AT_ONCE]
