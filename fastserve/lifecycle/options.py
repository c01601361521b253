"""Settings of the lifecycle room; the only list of them."""

from pydantic import BaseModel, ConfigDict, Field


class LifecycleOptions(BaseModel):
    """Which versions are loaded, and how carefully."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: int = Field(
        default=8, ge=1, le=1_000, description="How many of a model's newest versions are loaded and served."
    )
    verify: bool = Field(
        default=True, description="Check sizes and checksums against the manifest before a load."
    )
