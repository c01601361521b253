"""Settings of the tracing room; the only list of them."""

from pydantic import BaseModel, ConfigDict, Field


class TracingOptions(BaseModel):
    """Whether spans are made; where they go is said by OpenTelemetry's own variables, OTEL_…."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False,
        description="Make OpenTelemetry spans of requests and batches; needs pip install 'fastserve[otel]', "
        "and takes every request past the fast path.",
    )
