"""Fleets, comparisons and reports for the tests of what is shown of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fastserve.controlplane.fleet import Fleet, VersionTotals, WorkerNow
from fastserve.controlplane.reporting import Report, TimePoint
from fastserve.monitoring.comparing import FeatureComparison, Moments, Side
from fastserve.monitoring.snapshot import HistogramDelta, ProcessFigures, VersionNow

DISTANCES: dict[str, float | None] = {
    "psi": 0.25,
    "psi_raw": 0.26,
    "jensen_shannon": 0.2,
    "hellinger": 0.18,
    "total_variation": 0.15,
    "kolmogorov_smirnov": 0.12,
    "wasserstein": 3.5,
    "chi_square": 61.0,
    "degrees": 5.0,
}


def side(counts: tuple[int, ...], missing: int, outside: int, mean: float | None = None) -> Side:
    """One side whose rows are those that were counted and those that were missing."""
    moments = None if mean is None else Moments(mean=mean, sd=1.0, minimum=mean - 2, maximum=mean + 2)
    return Side(rows=sum(counts) + missing, missing=missing, counts=counts, outside=outside, moments=moments)


def number(name: str = "x", **more: Any) -> FeatureComparison:
    """A number in four bins, of which live rows have left the range and gone missing."""
    made: dict[str, Any] = {
        "tensor": "features",
        "role": "input",
        "feature": name,
        "kind": "number",
        "edges": (0.0, 1.0, 2.0, 3.0, 4.0),
        "reference": side((0, 10, 40, 40, 10, 0), 0, 0, 2.0),
        "live": side((5, 5, 10, 20, 30, 20), 10, 25, 2.75),
        "distances": DISTANCES,
        "phi": 1.5,
    }
    return FeatureComparison(**{**made, **more})


def category(name: str = "carrier", **more: Any) -> FeatureComparison:
    """A category of three, with unseen ones in the live rows; no Wasserstein."""
    made: dict[str, Any] = {
        "tensor": "carrier",
        "role": "input",
        "feature": name,
        "kind": "category",
        "categories": ("AA", "DL", "UA"),
        "reference": side((50, 30, 20), 0, 0),
        "live": Side(rows=100, missing=3, counts=(20, 30, 40), outside=7),
        "distances": {**DISTANCES, "kolmogorov_smirnov": None, "wasserstein": None},
        "phi": 1.0,
    }
    return FeatureComparison(**{**made, **more})


def worker(place: int, *now: VersionNow, cpu_before_s: float = 0.0) -> WorkerNow:
    """A worker that holds versions."""
    process = ProcessFigures(pid=7, resident_bytes=1000 + place, cpu_s=1.5, open_fds=20, threads=4)
    return WorkerNow("0" * 32, 0.0, process, list(now), cpu_before_s)


def holding(model: str, version: int, state: str = "READY", queue_rows: int = 0) -> VersionNow:
    """A version in a worker."""
    return VersionNow(model=model, version=version, state=state, queue_rows=queue_rows)


def fleet(model: str = "flights", feature: str = "x") -> Fleet:
    """Two workers, one version with everything, and requests that no model answered."""
    histograms = {
        "queue": HistogramDelta(buckets={0: 1, 47: 2, 48: 3, 192: 4}, total=10**9),
        "total": HistogramDelta(buckets={120: 5}, total=10**8),
        "batch_rows": HistogramDelta(buckets={0: 3, 7: 1, 8: 1, 150: 1}, total=5_000),
    }
    return Fleet(
        totals={
            (model, 3): VersionTotals({"200": 9, "429": 1}, histograms, 4_321),
            ("", 0): VersionTotals({"404": 2}, {}, 0),
        },
        workers={
            ("box", 0): worker(0, holding(model, 3, "READY", 5), cpu_before_s=2.0),
            ("box", 1): worker(1, holding(model, 3, "LOADING", 2)),
        },
        drift={(model, 3): [number(feature), category()]},
    )


def report(*features: FeatureComparison, points: int = 3, **more: Any) -> Report:
    """A day of live rows of the given features, with a timeline that has a gap."""
    start = datetime(2013, 7, 1, tzinfo=UTC)
    span = timedelta(days=1) / points
    timeline = tuple(
        TimePoint(
            start=start + at * span,
            end=start + (at + 1) * span,
            rows=0 if at == 1 else 100,
            psi=tuple(None if at == 1 else 0.1 * at for _ in features),
            missing_share=tuple(None if at == 1 else 0.01 * at for _ in features),
        )
        for at in range(points)
    )
    made: dict[str, Any] = {
        "model": "flights",
        "version": 3,
        "aliases": ("champion",),
        "source": "data",
        "description": "train.parquet",
        "reference_rows": 1_000,
        "profile": "ab" * 32,
        "start": start,
        "end": start + timedelta(days=1),
        "rows": 12_345,
        "features": features,
        "timeline": timeline,
    }
    return Report(**{**made, **more})
