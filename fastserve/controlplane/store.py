"""The one writer of the database: takes in snapshots, a group in one transaction."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, update

from fastserve.clock import WallClock
from fastserve.controlplane import schema
from fastserve.controlplane.committed import Committed
from fastserve.controlplane.database import Database
from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.fleet import Place, Version, VersionTotals, WorkerNow
from fastserve.controlplane.group import Answer, Group
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles, Sketches
from fastserve.controlplane.tables import workers
from fastserve.controlplane.totals import read_totals
from fastserve.controlplane.windows import Windows
from fastserve.monitoring.snapshot import Snapshot

log = logging.getLogger("fastserve.controlplane")


@dataclass(slots=True)
class Taken:
    """What a committed group has changed."""

    answers: list[Answer] = field(default_factory=list)
    """One for each snapshot, in their order."""
    totals: dict[Version, VersionTotals] = field(default_factory=dict)
    """As they are now."""
    all_totals: bool = False
    """`totals` are all that there are, not only those that changed."""
    workers: dict[Place, WorkerNow] = field(default_factory=dict)
    """`seen_s` is for whoever has the monotonic clock to set."""
    watched: set[Version] = field(default_factory=set)
    """Versions with new rows."""


class Store:
    """Writes snapshots and reads totals. One thread at a time.

    Parameters
    ----------
    clock_ms
        This machine's time of day.
    """

    def __init__(
        self,
        database: Database,
        options: ControlOptions,
        profiles: Profiles,
        clock_ms: WallClock,
    ) -> None:
        self.database = database
        self.profiles = profiles
        self._caches = (profiles, Sketches())
        self._committed = Committed()
        self._count_rows = options.count_window_rows
        self._clock_ms = clock_ms
        self._in_doubt = True
        """A commit may have happened that nobody heard of: totals are to be read anew."""
        self._tenure = 0
        self._is_bare = False
        """Nothing is left in the database, which somebody made anew."""

    def prepare(self) -> None:
        """Make the tables, or bring them to this release; ConfigError, StoreUnavailable."""
        self.database.renew()  # somebody may have taken away the one that could not be read
        schema.prepare(self.database)

    def load(self) -> Taken:
        """Read all totals; StoreUnavailable."""
        with self.database.reading() as connection:
            return Taken(totals=read_totals(connection), all_totals=True)

    @contextmanager
    def housekeeping(self) -> Iterator[Connection]:
        """Give the one transaction that writes, to change in it what snapshots did; StoreUnavailable."""
        with self._writing() as connection:
            yield connection
            self._committed.clear()

    def touch(self) -> None:
        """Write what there is of workers as it is; StoreUnavailable when nothing can be written."""
        with self.housekeeping() as connection:
            connection.execute(update(workers).values(seen_ms=workers.c.seen_ms))

    @contextmanager
    def touching(self) -> Iterator[Windows]:
        """Give windows to change in one transaction; StoreUnavailable."""
        with self.housekeeping() as connection:
            windows = self._windows(connection)
            yield windows
            windows.write()

    def take_in(self, snapshots: list[Snapshot]) -> Taken:
        """Count snapshots in one transaction; each is counted once, however often it comes.

        Raises
        ------
        StoreUnavailable
            Nothing was counted, or nobody knows: send all of them again.
        """
        answers: dict[int, Answer] = {}
        try:
            with self._writing() as connection:
                windows = self._windows(connection)
                group = Group(connection, snapshots, self._clock_ms(), windows, self._committed, self._caches)
                for at in sorted(range(len(snapshots)), key=lambda at: snapshots[at].number):
                    answers[at] = group.take(snapshots[at])
                group.write()
                totals = read_totals(connection) if self._in_doubt else group.totals
        except StoreUnavailable:
            self._in_doubt = True
            raise
        self._committed.trim()
        all_totals, self._in_doubt = self._in_doubt, False
        in_order = [answers[at] for at in range(len(snapshots))]
        return Taken(in_order, totals, all_totals, group.workers, group.watched)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give the one transaction that writes; what it finds in memory is what the database holds."""
        self._is_bare |= self.database.renew()
        if self._is_bare:
            self.prepare()
            self._is_bare = False
            log.error("the database was taken away: what it held is lost, a new one is begun")
        try:
            with self.database.writing() as connection:
                if self._tenure != self.database.tenure:
                    self._tenure = self.database.tenure
                    self._committed.clear()
                    self._in_doubt = True
                yield connection
        except BaseException as error:
            self._committed.clear()
            self._is_bare = isinstance(error, StoreUnavailable) and error.has_no_tables
            raise

    def _windows(self, connection: Connection) -> Windows:
        return Windows(connection, self._committed, self._caches, self._count_rows)
