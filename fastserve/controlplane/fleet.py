"""What all workers have said so far: totals that only grow, and how each worker stands now. In memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fastserve.monitoring.comparing import FeatureComparison
from fastserve.monitoring.snapshot import HistogramDelta, ProcessFigures, Snapshot, VersionDelta, VersionNow

Version = tuple[str, int]
"""Model and version; ("", 0) for requests that no model answered."""

Place = tuple[str, int]
"""A worker's host, and its number there."""

_PATIENCE_S = 10.0
_MAX_PATIENCE_S = 180.0
"""A worker that sends once a minute is not gone after ten seconds."""


def patience_s(snapshot: Snapshot) -> float:
    """Tell how long after this snapshot its worker may be silent before it counts as gone."""
    period_s = (snapshot.to_ms - snapshot.from_ms) / 1_000
    return min(max(_PATIENCE_S, 3 * period_s), _MAX_PATIENCE_S)


@dataclass(slots=True)
class VersionTotals:
    """Sums over all workers since the database began."""

    codes: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, HistogramDelta] = field(default_factory=dict)
    watched_rows: int = 0

    def add(self, delta: VersionDelta) -> None:
        """Count what the version did since its worker's last snapshot."""
        self.watched_rows += delta.watched_rows
        for code, count in delta.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
        for name, histogram in delta.histograms.items():
            self.histograms.setdefault(name, HistogramDelta()).add(histogram)

    def copy(self) -> "VersionTotals":
        """Give totals that can be added to while others look at these."""
        histograms = {
            name: HistogramDelta.model_construct(buckets=dict(each.buckets), total=each.total)
            for name, each in self.histograms.items()
        }
        return VersionTotals(dict(self.codes), histograms, self.watched_rows)


@dataclass(slots=True)
class WorkerNow:
    """A worker as its last snapshot told."""

    incarnation: str
    seen_s: float
    """When it was last heard of, on the monotonic clock."""
    process: ProcessFigures
    versions: list[VersionNow] = field(default_factory=list)
    cpu_before_s: float = 0.0
    """Of the incarnations before, so that the place's sum only grows."""
    patience_s: float = _PATIENCE_S
    """It counts as gone when it was silent for longer."""


@dataclass(slots=True)
class Fleet:
    """Everything that `/metrics` shows. One event loop's thread only."""

    totals: dict[Version, VersionTotals] = field(default_factory=dict)
    workers: dict[Place, WorkerNow] = field(default_factory=dict)
    drift: dict[Version, list[FeatureComparison]] = field(default_factory=dict)
    """The last comparison of live rows with the profile, feature by feature in its order."""

    def held(self) -> Iterator[tuple[Version, VersionNow]]:
        """Give every version of every worker, as it stands there."""
        for worker in self.workers.values():
            for one in worker.versions:
                yield (one.model, one.version), one

    def present(self) -> set[Version]:
        """Versions that some worker still holds, and requests that no model answered."""
        return {version for version, _ in self.held()} | {("", 0)}
