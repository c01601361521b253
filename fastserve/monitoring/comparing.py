"""Reference and live counts of a tensor side by side: how far apart each feature is, and what is off."""

from pydantic import BaseModel, ConfigDict


class Moments(BaseModel):
    """Of a number's finite values; None where there was none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None


class Side(BaseModel):
    """One feature's rows on one side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    missing: int
    counts: tuple[int, ...]
    """By bin (`FeatureComparison.edges`; the first and last are out of range) or by category."""
    outside: int
    """Rows out of the reference's range, or of an unseen category; infinities included."""
    infinite: int = 0
    moments: Moments | None = None
    """Of numbers only."""


class FeatureComparison(BaseModel):
    """How one feature's live rows differ from the reference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensor: str
    role: str
    """input or output."""
    feature: str
    kind: str
    """number or category."""
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    reference: Side
    live: Side
    distances: dict[str, float | None]
    """psi, psi_raw, jensen_shannon, hellinger, total_variation, kolmogorov_smirnov, wasserstein, chi_square,
    degrees; None where a statistic has no meaning, as Wasserstein of categories, or without rows."""
    phi: float
    """The reference's overdispersion: divide chi_square by it where rows depend on each other."""
