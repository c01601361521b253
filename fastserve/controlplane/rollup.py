"""Keeps the database small: minutes become hours, hours become days, and what is old goes."""

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select

from fastserve.controlplane.committed import Key
from fastserve.controlplane.fleet import Version
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.spans import BELOW, DAY_MS, HOUR_MS, MINUTE_MS, SPAN_MS, floor
from fastserve.controlplane.store import Store
from fastserve.controlplane.tables import profiles, sources, totals, windows, workers
from fastserve.controlplane.windows import of_key

GRACE_MS = 2 * MINUTE_MS
"""After the end of an hour or a day, before it is summed up; what comes later is added to it."""
SOURCE_DAYS = 7
"""How long a process that sends no more is remembered: its snapshots may still be on their way."""
_VACUUM_PAGES = 2_000


class Rollup:
    """Housekeeping, in short transactions between which snapshots are taken in. The store's thread only."""

    def __init__(self, store: Store, options: ControlOptions) -> None:
        self._store = store
        self._options = options

    def due(self, level: str, now_ms: int) -> list[tuple[Key, int]]:
        """List the hours, or days, that are over and have parts not in them yet, and when they began.

        Raises
        ------
        StoreUnavailable
        """
        span_ms = SPAN_MS[level]
        table = windows.c
        start = table.start_ms - table.start_ms % span_ms
        query = (
            select(table.model, table.version, table.profile, start)
            .where(table.level == BELOW[level], table.rolled.is_(False))
            .where(table.start_ms < floor(now_ms - GRACE_MS, span_ms))
            .distinct()
        )
        with self._store.database.reading() as connection:
            return [(Key(*key), start_ms) for *key, start_ms in connection.execute(query)]

    def roll(self, key: Key, level: str, start_ms: int) -> None:
        """Sum up one hour or day.

        Raises
        ------
        ProfileUnavailable
            What its rows were counted against cannot be read.
        StoreUnavailable
        """
        with self._store.touching() as found:
            found.roll(key, level, start_ms)

    def forget(self, now_ms: int, held: set[Version]) -> set[Version]:
        """Delete what is older than the options keep, and give its pages back.

        Parameters
        ----------
        held
            Versions that some worker has; their totals stay however long nobody asks them.

        Returns
        -------
        set of Version
            Whose totals went.

        Raises
        ------
        StoreUnavailable
        """
        oldest_ms = now_ms - int(self._options.keep_days_d * DAY_MS)
        with self._store.housekeeping() as connection:
            connection.execute(delete(windows).where(self._old(now_ms)))
            for surplus in self._surplus(connection):
                connection.execute(delete(windows).where(surplus))
            used = exists().where(windows.c.profile == profiles.c.digest)
            # One that nothing was counted against yet is new, and about to be.
            unused = and_(profiles.c.created_ms < now_ms - DAY_MS, ~used)
            connection.execute(delete(profiles).where(unused))
            gone_ms = now_ms - SOURCE_DAYS * DAY_MS
            connection.execute(delete(sources).where(sources.c.seen_ms < gone_ms))
            connection.execute(delete(workers).where(workers.c.seen_ms < gone_ms))
            gone = {
                (row.model, row.version)
                for row in connection.execute(select(totals).where(totals.c.changed_ms < oldest_ms))
            } - held
            for model, version in gone:
                one = and_(totals.c.model == model, totals.c.version == version)
                connection.execute(delete(totals).where(one))
        self._store.database.shrink(_VACUUM_PAGES)
        return gone

    def _old(self, now_ms: int) -> ColumnElement[bool]:
        """Choose windows past their time that those above hold; of minutes whole hours, else whole days.

        Of a window by count it is the last row that counts: it may have been filling for long.
        """
        options, table = self._options, windows.c
        minutes_ms = floor(now_ms - int(options.keep_minutes_h * HOUR_MS), HOUR_MS)
        hours_ms = floor(now_ms - int(options.keep_hours_d * DAY_MS), DAY_MS)
        days_ms = floor(now_ms - int(options.keep_days_d * DAY_MS), DAY_MS)
        return or_(
            and_(table.level == "minute", table.start_ms < minutes_ms, table.rolled),
            and_(table.level.in_(("minute", "hour")), table.start_ms < hours_ms, table.rolled),
            and_(table.level != "count", table.start_ms < days_ms),
            and_(table.level == "count", table.end_ms < days_ms),
        )

    def _surplus(self, connection: Connection) -> list[ColumnElement[bool]]:
        """Choose windows by count beyond those that are kept of each version."""
        keep, table = self._options.keep_count_windows, windows.c
        full = (
            select(table.model, table.version, table.profile)
            .where(table.level == "count")
            .group_by(table.model, table.version, table.profile)
            .having(func.count() > keep)
        )
        found: list[ColumnElement[bool]] = []
        for row in connection.execute(full).all():
            mine = and_(of_key(Key(row.model, row.version, row.profile)), table.level == "count")
            newest_first = select(table.start_ms).where(mine).order_by(table.start_ms.desc())
            last_ms = connection.execute(newest_first.offset(keep).limit(1)).scalar_one()
            found.append(and_(mine, table.start_ms <= last_ms))
        return found
