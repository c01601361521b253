"""One transaction of the store: checks snapshots one by one, counts those that are right, writes once."""

import logging
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, tuple_

from fastserve.controlplane.checking import MAX_WINDOW_ROWS, check_snapshot, check_states, parse_given
from fastserve.controlplane.committed import Committed, Key
from fastserve.controlplane.errors import ProfileUnavailable
from fastserve.controlplane.fleet import Place, Version, VersionTotals, WorkerNow, patience_s
from fastserve.controlplane.profiles import Profiles, Sketches, known_digests
from fastserve.controlplane.rows import write_rows
from fastserve.controlplane.spans import HOUR_MS
from fastserve.controlplane.tables import profiles, sources, totals, workers
from fastserve.controlplane.totals import read_totals, to_text
from fastserve.controlplane.windows import Windows
from fastserve.errors import InvalidRequest
from fastserve.monitoring.profile import Profile
from fastserve.monitoring.snapshot import Snapshot, VersionDelta

log = logging.getLogger("fastserve.controlplane")

LATEST_MS = 60_000
"""How far ahead of the control plane's clock a worker's may be."""
OLDEST_MS = 3 * HOUR_MS
"""How late a snapshot may come and still be put at its own minute."""

# Built once: to build a query takes longer than to run it.
_LAST_NUMBERS = select(sources.c.incarnation, sources.c.last_number).where(
    sources.c.incarnation.in_(bindparam("incarnations", expanding=True))
)
_PLACES = select(workers).where(
    tuple_(workers.c.host, workers.c.worker).in_(bindparam("places", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one snapshot: counted (now or earlier), not yet for want of profiles, or refused."""

    number: int
    wanted: tuple[str, ...] = ()
    """Digests of profiles to send the snapshot again with; nothing of it is counted."""
    refused: InvalidRequest | None = None


class _Fresh(NamedTuple):
    """A profile that a snapshot brought, and what is counted against it first."""

    profile: Profile
    data: bytes
    delta: VersionDelta


class Group:
    """Snapshots that are taken in together. One thread only, in one transaction."""

    def __init__(
        self,
        connection: Connection,
        snapshots: list[Snapshot],
        now_ms: int,
        windows: Windows,
        committed: Committed,
        caches: tuple[Profiles, Sketches],
    ) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._windows = windows
        self._committed = committed
        self._profiles, self._sketches = caches
        self._read_known(snapshots)
        self._fresh: dict[str, _Fresh] = {}
        self._counted: dict[str, Snapshot] = {}
        self.totals: dict[Version, VersionTotals] = {}
        self.workers: dict[Place, WorkerNow] = {}
        self.watched: set[Version] = set()
        """Versions with new rows in their windows."""

    def take(self, snapshot: Snapshot) -> Answer:
        """Count one snapshot, whole or not at all."""
        if snapshot.number <= self._last.get(snapshot.incarnation, 0):
            return Answer(snapshot.number)
        try:
            check_snapshot(snapshot)
            needed = {delta.profile: delta for delta in snapshot.deltas if delta.profile and delta.states}
            lacking = needed.keys() - self._known - self._fresh.keys()
            given = {
                digest: _Fresh(parse_given(data), data, needed[digest])
                for digest, data in snapshot.profiles.items()
                if digest in lacking
            }
            if wanted := lacking - given.keys():
                self._fresh.update(given)  # kept, since not all of them need fit into one snapshot
                return Answer(snapshot.number, tuple(sorted(wanted)))
            self._check_rows(snapshot, self._fresh | given)
        except InvalidRequest as error:
            return Answer(snapshot.number, refused=error)
        except ProfileUnavailable as error:  # who counts against it still has it
            log.error("%s; it is asked for again", error)
            self._connection.execute(profiles.delete().where(profiles.c.digest == error.digest))
            self._known.discard(error.digest)
            return Answer(snapshot.number, (error.digest,))
        self._fresh.update(given)
        self._count(snapshot)
        return Answer(snapshot.number)

    def write(self) -> None:
        """Write everything that was counted."""
        self._write_profiles()
        self._windows.write()
        self._write_sources()
        self._write_totals()
        self._write_workers()
        self._committed.totals |= self.totals

    def _read_known(self, snapshots: list[Snapshot]) -> None:
        """Read how far the sources were counted, who held their places, and which profiles there are."""
        committed = self._committed
        self._last, self._places, self._known = committed.numbers, committed.places, committed.profiles
        unread = {one.incarnation for one in snapshots} - self._last.keys()
        if unread:
            rows = self._connection.execute(_LAST_NUMBERS, {"incarnations": sorted(unread)})
            self._last |= {row.incarnation: row.last_number for row in rows}
        places = {(one.host, one.worker) for one in snapshots if one.host.isprintable()}
        unread_places = places - self._places.keys()
        if unread_places:
            self._places |= {
                (row.host, row.worker): (row.incarnation, row.cpu_before_s, row.cpu_s, row.seen_ms)
                for row in self._connection.execute(_PLACES, {"places": sorted(unread_places)})
            }
        digests = {delta.profile for one in snapshots for delta in one.deltas if delta.profile}
        self._known |= known_digests(self._connection, digests - self._known)

    def _check_rows(self, snapshot: Snapshot, fresh: dict[str, _Fresh]) -> None:
        """Raise InvalidRequest unless states fit and windows have room for the rows of each delta."""
        at_ms = self._moment(snapshot)
        sums: dict[Key, int] = {}
        for at, delta in enumerate(snapshot.deltas):
            label = f"deltas.{at}"
            key, rows = _key(delta), delta.watched_rows
            if delta.states:
                if key.profile in fresh:
                    profile = fresh[key.profile].profile
                else:
                    profile = self._profiles.get(self._connection, key.profile)
                check_states(delta, profile, self._sketches.of(key.profile, profile), label)
            if rows:
                sums[key] = sums.get(key, self._windows.minute_rows(key, at_ms)) + rows
                if sums[key] > MAX_WINDOW_ROWS:
                    raise InvalidRequest(f"more than {MAX_WINDOW_ROWS} rows in a minute", label)

    def _moment(self, snapshot: Snapshot) -> int:
        """Give the minute's moment; by this machine's clock when the worker's is far off."""
        late = self._now_ms - snapshot.to_ms
        return snapshot.to_ms if -LATEST_MS <= late <= OLDEST_MS else self._now_ms

    def _count(self, snapshot: Snapshot) -> None:
        at_ms = self._moment(snapshot)
        versions = {(delta.model, delta.version) for delta in snapshot.deltas} - self.totals.keys()
        if versions:
            self._read_totals(versions)
        for delta in snapshot.deltas:
            version = (delta.model, delta.version)
            self.totals[version].add(delta)
            if delta.watched_rows:
                self._windows.add(_key(delta), at_ms, delta.watched_rows, delta.states)
                self.watched.add(version)
        self._count_worker(snapshot)
        self._last[snapshot.incarnation] = snapshot.number
        self._counted[snapshot.incarnation] = snapshot

    def _read_totals(self, versions: set[Version]) -> None:
        """Begin with what was counted before."""
        known = self._committed.totals
        unread = versions - known.keys()
        if unread:
            known |= read_totals(self._connection, unread)
        for one in versions:
            self.totals[one] = known[one].copy() if one in known else VersionTotals()

    def _count_worker(self, snapshot: Snapshot) -> None:
        place = (snapshot.host, snapshot.worker)
        cpu_s = snapshot.process.cpu_s
        incarnation, before_s, last_s, seen_ms = self._places.get(place, (snapshot.incarnation, 0.0, 0.0, 0))
        if incarnation != snapshot.incarnation:
            is_silent = abs(self._now_ms - seen_ms) > patience_s(snapshot) * 1_000
            if snapshot.incarnation in self._last:
                if not is_silent:
                    return  # it was replaced; this is what it had not got rid of
                before_s -= cpu_s  # its own was counted when it was replaced
            before_s += last_s
        self._places[place] = (snapshot.incarnation, before_s, cpu_s, self._now_ms)
        self.workers[place] = WorkerNow(
            snapshot.incarnation, 0.0, snapshot.process, snapshot.now, before_s, patience_s(snapshot)
        )

    def _write_profiles(self) -> None:
        rows = [
            {
                "digest": digest,
                "model": one.delta.model,
                "version": one.delta.version,
                "content": zlib.compress(one.data),
                "created_ms": self._now_ms,
            }
            for digest, one in self._fresh.items()
        ]
        if rows:
            self._connection.execute(profiles.insert(), rows)
        for digest, one in self._fresh.items():
            self._profiles.keep(digest, one.profile)

    def _write_sources(self) -> None:
        rows = [
            {
                "incarnation": incarnation,
                "host": one.host,
                "worker": one.worker,
                "last_number": one.number,
                "seen_ms": self._now_ms,
            }
            for incarnation, one in self._counted.items()
        ]
        write_rows(self._connection, sources, rows)

    def _write_totals(self) -> None:
        rows = [
            {"model": model, "version": version, "content": to_text(one), "changed_ms": self._now_ms}
            for (model, version), one in self.totals.items()
        ]
        write_rows(self._connection, totals, rows)

    def _write_workers(self) -> None:
        rows = []
        for host, worker in self.workers:
            incarnation, before_s, cpu_s, seen_ms = self._places[host, worker]
            row = {"host": host, "worker": worker, "incarnation": incarnation}
            rows.append(row | {"cpu_before_s": before_s, "cpu_s": cpu_s, "seen_ms": seen_ms})
        write_rows(self._connection, workers, rows)


def _key(delta: VersionDelta) -> Key:
    return Key(delta.model, delta.version, (delta.profile or "") if delta.states else "")
