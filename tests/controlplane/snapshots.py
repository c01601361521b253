"""Profiles and snapshots as workers make them, small and quick."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fastserve.controlplane.rollup import Rollup
from fastserve.monitoring.profile import CategoryFeature, NumberFeature, Profile, Sketch, TensorProfile
from fastserve.monitoring.snapshot import (
    HistogramDelta,
    ProcessFigures,
    Snapshot,
    VersionDelta,
    VersionNow,
)

NOON_MS = 1_700_000_000_000 // 86_400_000 * 86_400_000 + 12 * 3_600_000
"""A noon, UTC."""

Rows = np.ndarray[Any, Any]


class Clock:
    """A time of day that a test sets."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def profile(features: int = 2, bins: int = 4, salt: str = "", categories: bool = True) -> Profile:
    """A reference: numbers spread evenly over -2 to 2, and one category."""
    edges = tuple(np.linspace(-2, 2, bins + 1).tolist())
    numbers = tuple(
        NumberFeature(
            name=f"x{f}",
            counts=(0, *(25,) * bins, 0),
            missing=0,
            edges=edges,
            mean=0.0,
            m2=10.0,
            minimum=-2.0,
            maximum=2.0,
        )
        for f in range(features)
    )
    tensors = [TensorProfile(tensor="x", role="input", datatype="FP32", features=numbers)]
    if categories:
        carrier = CategoryFeature(
            name="carrier", counts=(15 * bins, 10 * bins), missing=0, categories=("AA", "DL")
        )
        tensors.append(TensorProfile(tensor="c", role="input", datatype="BYTES", features=(carrier,)))
    return Profile(
        source="data",
        description=salt,
        rows=25 * bins,
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        tensors=tuple(tensors),
    )


def sketches(of: Profile) -> list[Sketch]:
    return [tensor.sketch() for tensor in of.tensors]


def count(into: list[Sketch], rows: Rows) -> None:
    """Count rows of numbers [rows, features]; the category follows from the first."""
    into[0].update(rows.astype(np.float32))
    if len(into) > 1:
        into[1].update(np.where(rows[:, :1] > 0, "AA", "B6").astype(object))


def states(of: Profile, rows: Rows) -> list[bytes]:
    made = sketches(of)
    count(made, rows)
    return [sketch.to_bytes() for sketch in made]


def delta(of: Profile | None, rows: Rows, model: str = "m", version: int = 1) -> VersionDelta:
    """What a worker says of rows that one request each brought."""
    return VersionDelta(
        model=model,
        version=version,
        codes={"200": len(rows)},
        histograms={"total": HistogramDelta(buckets={3: len(rows)}, total=len(rows) * 1_000)},
        watched_rows=len(rows) if of else 0,
        profile=of.digest() if of else None,
        states=states(of, rows) if of and len(rows) else [],
    )


def snapshot(
    number: int,
    deltas: list[VersionDelta],
    *,
    incarnation: int = 1,
    worker: int = 0,
    host: str = "here",
    to_ms: int = NOON_MS,
    cpu_s: float = 1.0,
    profiles: tuple[Profile, ...] = (),
    now: list[VersionNow] | None = None,
) -> Snapshot:
    return Snapshot(
        host=host,
        worker=worker,
        incarnation=hashlib.md5(str(incarnation).encode()).hexdigest(),
        number=number,
        from_ms=to_ms - 1_000,
        to_ms=to_ms,
        deltas=deltas,
        now=now or [],
        process=ProcessFigures(pid=1, resident_bytes=1, cpu_s=cpu_s, open_fds=1, threads=1),
        profiles={one.digest(): one.to_bytes() for one in profiles},
    )


def roll_up(rollup: Rollup, now_ms: int) -> None:
    """Sum up the hours and then the days that are over."""
    for level in ("hour", "day"):
        for key, start_ms in rollup.due(level, now_ms):
            rollup.roll(key, level, start_ms)


def normal(rows: int, seed: int = 0, features: int = 2, shift: float = 0.0) -> Rows:
    found: Rows = np.random.default_rng(seed).normal(shift, 1.0, (rows, features))
    return found
