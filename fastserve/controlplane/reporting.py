"""What a report says of one version over a span of time, as the API gives it and as it is shown."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from fastserve.monitoring.comparing import FeatureComparison


class TimePoint(BaseModel):
    """One window of the span."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: datetime
    end: datetime
    rows: int
    psi: tuple[float | None, ...]
    """Of each feature, in the report's order; None where the window has no rows."""
    missing_share: tuple[float | None, ...]


class Report(BaseModel):
    """Live rows of one version beside its reference; the features that differ most come first (by psi)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    timeline: tuple[TimePoint, ...] = ()
