"""The windows that one transaction touches: found, added to, written back merged.

Every row is counted in its minute and in a window by count. Minutes are later summed up in hours and hours
in days (`rollup`). What comes late for a minute whose hour is there already is added to the hour, and to the
day, in the same transaction. `rolled` says of a window that the one above holds its rows too.
"""

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, or_, select, update

from fastserve.controlplane.committed import Committed, Key, Window
from fastserve.controlplane.errors import StateDamaged
from fastserve.controlplane.profiles import Profiles, Sketches
from fastserve.controlplane.rows import write_rows
from fastserve.controlplane.spans import BELOW, DAY_MS, HOUR_MS, MINUTE_MS, SPAN_MS, floor
from fastserve.controlplane.states import merge_into, pack, unpack
from fastserve.controlplane.tables import windows

log = logging.getLogger("fastserve.controlplane")

# Built once: to build a query takes longer than to run it.
_OF_KEY = and_(*(windows.c[name] == bindparam(name) for name in Key._fields))
_COVERING = select(windows).where(
    _OF_KEY, or_(*(and_(windows.c.level == one, windows.c.start_ms == bindparam(one)) for one in SPAN_MS))
)
_NEWEST_BY_COUNT = (
    select(windows).where(_OF_KEY, windows.c.level == "count").order_by(windows.c.start_ms.desc()).limit(1)
)


class Windows:
    """Windows in one transaction. One thread only."""

    def __init__(
        self,
        connection: Connection,
        committed: Committed,
        caches: tuple[Profiles, Sketches],
        count_rows: int,
    ) -> None:
        self._connection = connection
        self._profiles, self._sketches = caches
        self._count_rows = count_rows
        self._by_time = committed.by_time
        self._by_count = committed.by_count

    def minute_rows(self, key: Key, at_ms: int) -> int:
        """Tell how many rows the minute has so far."""
        minute = self._minute(key, at_ms)
        return minute.rows if minute else 0

    def add(self, key: Key, at_ms: int, rows: int, states: Sequence[bytes]) -> None:
        """Count rows at a moment, in every window that holds it."""
        minute = self._minute(key, at_ms)
        hour = self._by_time[key, "hour", floor(at_ms, HOUR_MS)]
        if minute is None:
            minute = self._make(key, "minute", at_ms)
            minute.rolled = hour is not None
        minute.put(rows, states)
        if hour is not None:
            hour.put(rows, states)
            day = self._by_time[key, "day", floor(at_ms, DAY_MS)]
            if hour.rolled and day is not None:
                day.put(rows, states)
        self._add_by_count(key, at_ms, rows, states)

    def roll(self, key: Key, level: str, start_ms: int) -> None:
        """Sum up the windows below an hour or a day, those that are not in it yet."""
        self._load(key, start_ms)
        upper = self._by_time[key, level, start_ms] or self._make(key, level, start_ms)
        day = self._by_time[key, "day", floor(start_ms, DAY_MS)] if level == "hour" else None
        table = windows.c
        inside = and_(
            of_key(key),
            table.level == BELOW[level],
            table.start_ms >= start_ms,
            table.start_ms < start_ms + SPAN_MS[level],
            table.rolled.is_(False),
        )
        for rows, state in self._connection.execute(select(table.rows, table.state).where(inside)):
            for window in (upper, day):
                if window is not None:
                    window.put(rows, state)
        if day is not None:
            upper.rolled = True
        self._connection.execute(update(windows).where(inside).values(rolled=True))

    def write(self) -> None:
        """Merge what was added and write it."""
        changed = [
            (key, window) for (key, _, _), window in self._by_time.items() if window and window.changed
        ]
        changed += [
            (key, window) for key, each in self._by_count.items() for window in each if window.changed
        ]
        write_rows(self._connection, windows, [self._row(key, window) for key, window in changed])
        for each in self._by_count.values():
            del each[:-1]

    def _add_by_count(self, key: Key, at_ms: int, rows: int, states: Sequence[bytes]) -> None:
        found = self._by_count.get(key)
        if found is None:
            found = self._by_count[key] = self._load_by_count(key)
        window = found[-1] if found else None
        if window is None or window.rolled:
            start_ms = at_ms if window is None else max(at_ms, window.start_ms + 1)
            window = Window("count", start_ms, start_ms)
            found.append(window)
        window.put(rows, states)
        window.end_ms = max(window.end_ms, at_ms)
        window.rolled = window.rows >= self._count_rows

    def _load_by_count(self, key: Key) -> list[Window]:
        """Give the newest window by count, whether it is closed or not."""
        row = self._connection.execute(_NEWEST_BY_COUNT, key._asdict()).first()
        return [_read(row)] if row else []

    def _minute(self, key: Key, at_ms: int) -> Window | None:
        start_ms = floor(at_ms, MINUTE_MS)
        if (key, "minute", start_ms) not in self._by_time:
            self._load(key, at_ms)
        return self._by_time[key, "minute", start_ms]

    def _load(self, key: Key, at_ms: int) -> None:
        """Find the minute, the hour and the day of a moment."""
        starts = {level: floor(at_ms, span_ms) for level, span_ms in SPAN_MS.items()}
        for level, start_ms in starts.items():
            self._by_time.setdefault((key, level, start_ms))
        for row in self._connection.execute(_COVERING, key._asdict() | starts):
            # One that was found before may have been added to since.
            if self._by_time[key, row.level, row.start_ms] is None:
                self._by_time[key, row.level, row.start_ms] = _read(row)

    def _make(self, key: Key, level: str, at_ms: int) -> Window:
        start_ms = floor(at_ms, SPAN_MS[level])
        window = Window(level, start_ms, start_ms + SPAN_MS[level])
        self._by_time[key, level, start_ms] = window
        return window

    def _row(self, key: Key, window: Window) -> dict[str, Any]:
        window.written(self._merged(key, window))  # first: it may correct the rows
        return {
            **key._asdict(),
            "level": window.level,
            "start_ms": window.start_ms,
            "end_ms": window.end_ms,
            "rows": window.rows,
            "rolled": window.rolled,
            "state": window.stored,
        }

    def _merged(self, key: Key, window: Window) -> bytes:
        if not window.parts:
            return window.stored
        profile = self._profiles.get(self._connection, key.profile)
        sketches = self._sketches.of(key.profile, profile)
        damaged = False
        for part in [window.stored, *window.parts] if window.stored else window.parts:
            try:
                merge_into(sketches, unpack(part) if isinstance(part, bytes) else part)
            except StateDamaged as error:
                # To stand still here would be to lose everything that comes.
                log.error("%s; what it held of model '%s' version %d is left out", error, *key[:2])
                damaged = True
        if damaged:
            window.rows = max(sketch.rows for sketch in sketches)
        return pack([sketch.to_bytes() for sketch in sketches])


def _read(row: Row[Any]) -> Window:
    return Window(row.level, row.start_ms, row.end_ms, row.rows, row.rolled, row.state)


def of_key(key: Key) -> ColumnElement[bool]:
    """Choose the windows of one version and profile."""
    return and_(*(windows.c[name] == value for name, value in key._asdict().items()))
