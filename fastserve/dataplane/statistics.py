"""What every version did since somebody last asked: counts for the control plane, none twice, none lost."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastserve.batching import Watcher
from fastserve.dataplane.served import Served
from fastserve.lifecycle import Record
from fastserve.monitoring import Profile, Recorder
from fastserve.monitoring.snapshot import HistogramDelta, VersionDelta, VersionNow


@dataclass(slots=True)
class Taken:
    """Counts since the last time, and how things stand."""

    deltas: list[VersionDelta] = field(default_factory=list)
    now: list[VersionNow] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    """By digest; of everything that the deltas count against."""


class Statistics:
    """Gathers from the versions of one data plane. Event-loop thread only."""

    def __init__(self) -> None:
        self.taken_from = False
        """Whether anybody calls `take`; only then is kept what versions that have gone have counted."""
        self._ledgers: dict[Served, _Ledger] = {}
        self._left: list[VersionDelta] = []
        self._left_profiles: dict[str, Profile] = {}
        self._outgoing: list[tuple[Served, Recorder]] = []
        self._fading: list[tuple[Served, Recorder]] = []
        self._unanswered: dict[int, int] = {}

    def enrol(self, served: Served) -> None:
        """Count a version from now on."""
        self._ledgers[served] = _Ledger(served)

    def dismiss(self, served: Served) -> None:
        """A version has answered its last request: what it counted is told once more."""
        ledger = self._ledgers.pop(served, None)
        if ledger is not None and self.taken_from:
            self._leave(ledger.take(), ledger.recorder)

    def replace(self, served: Served, watcher: Watcher | None) -> None:
        """Let another watcher see a version's rows; what a recorder before it counted is kept."""
        before = served.watch.watcher
        served.watch.watcher = watcher
        if isinstance(before, Recorder):
            # Taken from with the next two looks: a run that has found it may still be about to count.
            self._outgoing.append((served, before))

    def count_code(self, status: int) -> None:
        """Count a request that no version answered."""
        self._unanswered[status] = self._unanswered.get(status, 0) + 1

    def take(self, records: Iterable[Record]) -> Taken:
        """Give everything counted since the last `take`, and the state of every version in `records`."""
        for served, recorder in (*self._fading, *self._outgoing):
            self._leave(_watched(served, recorder), recorder)
        out = Taken(self._left, [], self._left_profiles)
        self._left, self._left_profiles = [], {}
        self._fading, self._outgoing = self._outgoing, []
        for ledger in self._ledgers.values():
            delta = ledger.take()
            if delta is not None:
                out.deltas.append(delta)
            if ledger.recorder is not None:
                out.profiles[ledger.recorder.digest] = ledger.recorder.profile
        if self._unanswered:
            codes = {str(status): count for status, count in self._unanswered.items()}
            out.deltas.append(VersionDelta(model="", version=0, codes=codes))
            self._unanswered = {}
        out.now = self._stand(records)
        return out

    def _leave(self, delta: VersionDelta | None, recorder: Recorder | None) -> None:
        if delta is not None:
            self._left.append(delta)
            if recorder is not None:
                self._left_profiles[recorder.digest] = recorder.profile

    def _stand(self, records: Iterable[Record]) -> list[VersionNow]:
        ledgers = {(one.served.name, one.served.number): one for one in self._ledgers.values()}
        now = []
        for record in records:
            if record.is_gone:
                continue
            ledger = ledgers.get((record.model, record.version))
            one = VersionNow(
                model=record.model,
                version=record.version,
                state=str(record.state),
                reason=sayable(record.reason),
            )
            if ledger is not None:
                one.queue_rows = ledger.served.waiting_rows()
                recorder = ledger.recorder
                one.profile = None if recorder is None else recorder.digest
                one.unwatched = sayable(ledger.served.unwatched if recorder is None else recorder.failure)
            now.append(one)
        return now


def sayable(reason: str) -> str:
    """Cut a reason to what a snapshot and JSON may hold; what it quotes of a file need not be UTF-8."""
    return reason[:2_000].encode("utf-8", "replace").decode()


def _watched(served: Served, recorder: Recorder) -> VersionDelta | None:
    """Take what a recorder counted; None when it has seen no row since."""
    rows, states = recorder.take()
    if not rows:
        return None
    return VersionDelta(
        model=served.name, version=served.number, watched_rows=rows, profile=recorder.digest, states=states
    )


class _Ledger:
    """What has been told of one version's counters."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._codes: dict[int, int] = {}
        self._fast = 0

    @property
    def recorder(self) -> Recorder | None:
        watcher = self.served.watch.watcher
        return watcher if isinstance(watcher, Recorder) else None

    def take(self) -> VersionDelta | None:
        """Give what was counted since the last time, rows of all its answers; None when nothing was."""
        self.served.settle()
        codes = self._new_codes()
        histograms = {
            name: HistogramDelta(buckets=buckets, total=total)
            for name, (buckets, total) in self.served.stats.histograms.take().items()
        }
        recorder = self.recorder
        delta = None if recorder is None else _watched(self.served, recorder)
        if delta is None and (codes or histograms):
            delta = VersionDelta(model=self.served.name, version=self.served.number)
        if delta is not None:
            delta.codes, delta.histograms = codes, histograms
        return delta

    def _new_codes(self) -> dict[str, int]:
        new = {}
        for status, count in self.served.stats.codes.items():
            grown = count - self._codes.get(status, 0)
            if grown:
                new[str(status)] = grown
                self._codes[status] = count
        fast = self.served.fast_answers()
        if fast > self._fast:
            new["200"] = new.get("200", 0) + fast - self._fast
            self._fast = fast
        return new
