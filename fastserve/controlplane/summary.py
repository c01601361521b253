"""Merges windows of one version over a span of time and sets them beside its reference."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from sqlalchemy import Connection, and_, func, select

from fastserve.controlplane.committed import Key
from fastserve.controlplane.database import Database
from fastserve.controlplane.errors import NotWatched, StateDamaged
from fastserve.controlplane.group import LATEST_MS
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.reporting import CountWindows, Report, TimePoint
from fastserve.controlplane.rows import in_parts
from fastserve.controlplane.spans import DAY_MS, SPAN_MS, Span, Stored, choose
from fastserve.controlplane.states import merge_into, unpack
from fastserve.controlplane.tables import profiles, windows
from fastserve.controlplane.windows import of_key
from fastserve.monitoring.bins import Bins
from fastserve.monitoring.comparing import FeatureComparison, compare, finite_or_none
from fastserve.monitoring.profile import Profile, Sketch

log = logging.getLogger("fastserve.controlplane")


@dataclass(slots=True)
class Live:
    """What was counted of one version in a span, and what it is to be compared with."""

    digest: str
    profile: Profile
    sketches: list[Sketch]
    """One for each tensor of the profile."""
    rows: int = 0

    def features(self) -> list[FeatureComparison]:
        """Compare every feature, in the profile's order."""
        return [
            feature
            for tensor, sketch in zip(self.profile.tensors, self.sketches, strict=True)
            for feature in compare(tensor, sketch)
        ]


class Summaries:
    """Reads the database for reports. Safe from any thread."""

    def __init__(self, database: Database, known: Profiles) -> None:
        self._database = database
        self._profiles = known

    def live(self, model: str, version: int, start_ms: int, end_ms: int) -> Live:
        """Merge everything from `start_ms` to before `end_ms`.

        Raises
        ------
        NotWatched, StoreUnavailable
        """
        with self._database.reading() as connection:
            live = self._begin(connection, model, version, end_ms)
            key = Key(model, version, live.digest)
            chosen = choose(_stored(connection, key, start_ms, end_ms), DAY_MS)
            live.rows = _merge(connection, key, chosen, live.sketches)
        return live

    def report(self, model: str, version: int, span: Span, aliases: Sequence[str] = ()) -> Report:
        """Say all there is to say of a version over a span.

        Raises
        ------
        NotWatched, StoreUnavailable
        """
        with self._database.reading() as connection:
            live = self._begin(connection, model, version, span.end_ms)
            points = self._timeline(connection, Key(model, version, live.digest), span, live)
        features = live.features()
        order = sorted(range(len(features)), key=lambda at: -features[at].severity)
        profile = live.profile
        return Report(
            model=model,
            version=version,
            aliases=tuple(aliases),
            source=profile.source,
            description=profile.description,
            reference_rows=profile.rows,
            profile=live.digest,
            start=_time(span.start_ms),
            end=_time(span.end_ms),
            rows=live.rows,
            features=tuple(features[at] for at in order),
            timeline=tuple(_sorted(point, order) for point in points),
        )

    def by_count(self, model: str, version: int, limit: int, end_ms: int) -> CountWindows:
        """Give the last windows that were closed by their number of rows, at most `limit`; `end_ms` is now.

        Raises
        ------
        NotWatched, StoreUnavailable
        """
        table = windows.c
        with self._database.reading() as connection:
            live = self._begin(connection, model, version, end_ms)
            key = Key(model, version, live.digest)
            newest = (
                select(table.start_ms, table.end_ms, table.rows, table.state)
                .where(of_key(key), table.level == "count")
                .order_by(table.start_ms.desc())
                .limit(limit)
            )
            found = list(connection.execute(newest))
        bins = [Bins(tensor) for tensor in live.profile.tensors]
        points = []
        for start_ms, end_ms, rows, state in reversed(found):
            for sketch in live.sketches:
                sketch.reset()
            try:
                merge_into(live.sketches, unpack(state))
            except StateDamaged:
                continue
            points.append(time_point(start_ms, end_ms, rows, bins, live.sketches))
        names = tuple(
            one.name if tensor.role == "input" else f"output:{one.name}"
            for tensor in live.profile.tensors
            for one in tensor.features
        )
        return CountWindows(
            model=model, version=version, profile=live.digest, features=names, windows=tuple(points)
        )

    def _begin(self, connection: Connection, model: str, version: int, end_ms: int) -> Live:
        """Find the reference that rows were counted against last, until `end_ms`; nothing is counted yet."""
        table = windows.c
        # Windows by count end with their last row, and not with a minute that two profiles may share.
        by_count = and_(table.level == "count", table.profile != "")
        last_ms = func.max(table.end_ms)
        newest = (
            select(table.profile)
            .where(table.model == model, table.version == version, by_count)
            .group_by(table.profile)
            # A clock that was ahead and is right now has left windows that end when nobody has counted yet.
            .order_by(last_ms > end_ms + LATEST_MS, last_ms.desc())
            .limit(1)
        )
        named = (
            select(profiles.c.digest)
            .where(profiles.c.model == model, profiles.c.version == version)
            .order_by(profiles.c.created_ms.desc())
            .limit(1)
        )
        digest = connection.scalar(newest) or connection.scalar(named)
        if digest is None:
            raise NotWatched(model, version)
        profile = self._profiles.get(connection, digest)
        return Live(digest, profile, [tensor.sketch() for tensor in profile.tensors])

    def _timeline(self, connection: Connection, key: Key, span: Span, live: Live) -> list[TimePoint]:
        """Give a point for each step of the span, adding all of them to `live`."""
        chosen = choose(_stored(connection, key, span.start_ms, span.end_ms), span.step_ms)
        by_step = {
            step: list(some) for step, some in groupby(chosen, lambda one: one.start_ms // span.step_ms)
        }
        bins = [Bins(tensor) for tensor in live.profile.tensors]
        one_step = [tensor.sketch() for tensor in live.profile.tensors]
        points = []
        for step in range(span.start_ms // span.step_ms, math.ceil(span.end_ms / span.step_ms)):
            total = _merge(connection, key, by_step.get(step, []), one_step)
            start_ms = max(step * span.step_ms, span.start_ms)
            end_ms = min((step + 1) * span.step_ms, span.end_ms)
            points.append(time_point(start_ms, end_ms, total, bins, one_step))
            live.rows += total
            for sketch, whole in zip(one_step, live.sketches, strict=True):
                whole.merge_bytes(sketch.take())
        return points


def _stored(connection: Connection, key: Key, start_ms: int, end_ms: int) -> list[Stored]:
    """List the windows that lie in a span, without what they hold."""
    table = windows.c
    query = select(table.start_ms, table.level, table.rolled).where(
        of_key(key), table.level.in_(SPAN_MS), table.start_ms >= start_ms, table.end_ms <= end_ms
    )
    return [Stored(row.start_ms, row.level, row.rolled) for row in connection.execute(query)]


def _merge(connection: Connection, key: Key, chosen: Sequence[Stored], into: Sequence[Sketch]) -> int:
    """Count windows in sketches; the number of their rows. What cannot be read is left out."""
    table = windows.c
    total = unreadable = 0
    for level in SPAN_MS:
        starts = [one.start_ms for one in chosen if one.level == level]
        for some in in_parts(starts):
            found = and_(of_key(key), table.level == level, table.start_ms.in_(some))
            for rows, state in connection.execute(select(table.rows, table.state).where(found)):
                try:
                    merge_into(into, unpack(state))
                    total += rows
                except StateDamaged:
                    unreadable += 1
    if unreadable:
        log.warning("%d windows of model '%s' version %d cannot be read", unreadable, *key[:2])
    return total


def time_point(
    start_ms: int, end_ms: int, rows: int, bins: Sequence[Bins], sketches: Sequence[Sketch]
) -> TimePoint:
    """Say how far a window is from the profile that the bins are of; gives the same psi as `compare`."""
    psi: list[float | None] = []
    missing: list[float | None] = []
    for mine, sketch in zip(bins, sketches, strict=True):
        psi += map(finite_or_none, mine.measure(sketch).psi.tolist())
        missing += [count / sketch.rows if sketch.rows else None for count in sketch.missing.tolist()]
    start, end = _time(start_ms), _time(end_ms)
    return TimePoint(start=start, end=end, rows=rows, psi=tuple(psi), missing_share=tuple(missing))


def _sorted(point: TimePoint, order: Sequence[int]) -> TimePoint:
    psi = tuple(point.psi[at] for at in order)
    missing = tuple(point.missing_share[at] for at in order)
    return point.model_copy(update={"psi": psi, "missing_share": missing})


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)
