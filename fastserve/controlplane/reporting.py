"""What a report says of one version over a span of time, as the API gives it and as it is shown."""

from datetime import datetime

from fastserve.monitoring.comparing import FeatureComparison, Stated


class TimePoint(Stated):
    """One window of the span."""

    start: datetime
    end: datetime
    rows: int
    psi: tuple[float | None, ...]
    """Of each feature, in the report's order; None where the window has no rows."""
    missing_share: tuple[float | None, ...]


class CountWindows(Stated):
    """The newest windows of one version that were closed by their number of rows, the oldest first."""

    model: str
    version: int
    profile: str
    """Digest."""
    features: tuple[str, ...]
    """In the order of each window's figures: `name` of an input, `output:name` of an output."""
    windows: tuple[TimePoint, ...]
    """The last one may still be filling."""


class Report(Stated):
    """Live rows of one version beside its reference; the features by `severity`, the worst first."""

    model: str
    version: int
    aliases: tuple[str, ...] = ()
    source: str
    """data: the reference was given; live: it is the first rows that were served."""
    description: str
    reference_rows: int
    profile: str
    """Digest."""
    start: datetime
    end: datetime
    rows: int
    """Live rows in the span."""
    features: tuple[FeatureComparison, ...]
    timeline: tuple[TimePoint, ...]
    """Never empty: a span holds a step at least."""
