"""Snapshots that wait for the control plane: bounded, numbered, each sent until it is acknowledged."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastserve.monitoring.profile import Profile
from fastserve.monitoring.snapshot import (
    MAX_SNAPSHOT_BYTES,
    HistogramDelta,
    ProcessFigures,
    Snapshot,
    VersionDelta,
    VersionNow,
)

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends."""

    host: str
    worker: int
    incarnation: str
    """32 hexadecimal digits, others for every process."""


@dataclass(slots=True)
class Report:
    """What a worker counted in a span of time, and how it stands at its end."""

    deltas: list[VersionDelta]
    now: list[VersionNow]
    process: ProcessFigures
    span_ms: tuple[int, int]
    profiles: dict[str, Profile] = field(default_factory=dict)
    """By digest; of everything that the deltas count against."""


@dataclass(slots=True)
class _Pending:
    """Counts of one minute that have no number yet."""

    from_ms: int
    to_ms: int
    deltas: dict[tuple[str, int, str | None], VersionDelta] = field(default_factory=dict)


class Outbox:
    """What one worker has counted and the control plane has not confirmed. One thread only.

    A snapshot that has been given out once stays as it is, since it may have arrived; what comes later is
    merged minute by minute, and beyond `limit` minutes the oldest two become one: counts are never lost,
    they are only told with less detail.
    """

    def __init__(self, identity: Identity, limit: int) -> None:
        self._identity = identity
        self._limit = limit
        self._pending: list[_Pending] = []
        self._sent: Snapshot | None = None
        self._number = self._asked = 0
        self._profiles: dict[str, Profile] = {}
        self._now: list[VersionNow] = []
        self._process: ProcessFigures | None = None

    def add(self, report: Report) -> None:
        """Take in a report."""
        self._now, self._process = report.now, report.process
        self._profiles.update(report.profiles)
        newest = self._pending[-1] if self._pending else None
        if newest is None or newest.to_ms // _MINUTE_MS != report.span_ms[1] // _MINUTE_MS:
            newest = _Pending(*report.span_ms)
            self._pending.append(newest)
        self._merge(newest, report.deltas, report.span_ms)
        if len(self._pending) > self._limit:
            second = self._pending.pop(1)
            self._merge(self._pending[0], second.deltas.values(), (second.from_ms, second.to_ms))

    def next(self) -> Snapshot | None:
        """Give the snapshot to send now: the same one until it is acknowledged; None when none waits."""
        if self._sent is None and self._pending and self._process is not None:
            oldest = self._pending.pop(0)
            self._number += 1
            self._asked = 0
            self._sent = Snapshot(
                host=self._identity.host,
                worker=self._identity.worker,
                incarnation=self._identity.incarnation,
                number=self._number,
                from_ms=oldest.from_ms,
                to_ms=oldest.to_ms,
                deltas=list(oldest.deltas.values()),
                now=self._now,
                process=self._process,
            )
        return self._sent

    def attach(self, digests: list[str]) -> bool:
        """Put profiles that the control plane asked for beside the snapshot, as many as fit in at once.

        False when one is not known, or when all of them were there already: asking again leads nowhere.
        """
        assert self._sent is not None
        fresh = [digest for digest in digests if digest not in self._sent.profiles]
        self._asked += 1
        known = all(digest in self._profiles for digest in digests)
        if not fresh or not known or self._asked > 2 * len(self._profiles):
            return False
        most = MAX_SNAPSHOT_BYTES // 2 - sum(len(state) for one in self._sent.deltas for state in one.states)
        room = most - sum(map(len, self._sent.profiles.values()))
        for place, digest in enumerate(fresh):
            data = self._profiles[digest].to_bytes()
            if len(data) > room and place:
                break  # it is asked for again
            if len(data) > room:  # those of the last time are kept there
                self._sent.profiles, room = {}, most
            self._sent.profiles[digest], room = data, room - len(data)
        return True

    def acknowledge(self) -> None:
        """The snapshot that `next` gave is in the control plane's hands, or will never be."""
        self._sent = None
        wanted = {delta.profile for pending in self._pending for delta in pending.deltas.values()}
        wanted |= {version.profile for version in self._now}
        self._profiles = {digest: one for digest, one in self._profiles.items() if digest in wanted}

    @property
    def waiting(self) -> int:
        """Snapshots that are not acknowledged."""
        return len(self._pending) + (self._sent is not None)

    def _merge(self, into: _Pending, deltas: Iterable[VersionDelta], span_ms: tuple[int, int]) -> None:
        into.from_ms = min(into.from_ms, span_ms[0])
        into.to_ms = max(into.to_ms, span_ms[1])
        for delta in deltas:
            key = (delta.model, delta.version, delta.profile)
            before = into.deltas.get(key)
            if before is None:
                into.deltas[key] = delta
            else:
                self._add(before, delta)

    def _add(self, into: VersionDelta, delta: VersionDelta) -> None:
        into.watched_rows += delta.watched_rows
        for code, count in delta.codes.items():
            into.codes[code] = into.codes.get(code, 0) + count
        for name, histogram in delta.histograms.items():
            into.histograms.setdefault(name, HistogramDelta()).add(histogram)
        if not into.states:
            into.states = delta.states
        elif delta.states and delta.profile is not None:
            into.states = _merged(self._profiles[delta.profile], into.states, delta.states)


def _merged(profile: Profile, first: list[bytes], second: list[bytes]) -> list[bytes]:
    states = []
    for tensor, one, other in zip(profile.tensors, first, second, strict=True):
        sketch = tensor.sketch()
        sketch.merge_bytes(one)
        sketch.merge_bytes(other)
        states.append(sketch.to_bytes())
    return states
