"""Settings of the control plane; the only list of them."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from fastserve.monitoring.options import Token


class ControlOptions(BaseModel):
    """Where the control plane listens is `server.control_port`; this is how it keeps what it gathers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that the control plane listens on; whoever reaches it can read the reports. The "
        "port is server.control_port.",
    )
    database: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL, sqlite:///FILE or postgresql+psycopg://…; "
        "without it: control.db in a directory beside the registry, named as it and .control.",
    )
    token: Token = Field(
        default=None,
        description="Bearer token of snapshots over TCP, which are refused without one; give it by the "
        "environment.",
    )
    keep_minutes_h: float = Field(
        default=26.0, ge=2.0, le=24 * 30.0, description="How long windows of a minute are kept, in hours."
    )
    keep_hours_d: float = Field(
        default=8.0, ge=1.0, le=365.0, description="How long windows of an hour are kept, in days."
    )
    keep_days_d: float = Field(
        default=400.0, ge=7.0, le=10_000.0, description="How long windows of a day are kept, in days."
    )
    count_window_rows: int = Field(
        default=10_000, ge=100, le=10**9, description="Rows after which a window by count is closed."
    )
    keep_count_windows: int = Field(
        default=500, ge=1, le=100_000, description="Windows by count that are kept of each version."
    )
    drift_window_s: float = Field(
        default=3_600.0,
        ge=60.0,
        le=7 * 86_400.0,
        description="How far back the distances on /metrics look, in s.",
    )
    metrics_max_features: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="Features of a version that /metrics names; the others are in the report only.",
    )
