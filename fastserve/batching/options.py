"""Settings of the batching room; the only list of them."""

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fastserve.errors import ConfigError
from fastserve.overriding import overridden


class BatchingOptions(BaseModel):
    """How requests wait for a model and join batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="Join waiting requests into one run of the model.")
    max_batch_rows: int = Field(
        default=1024,
        ge=1,
        le=65_536,
        description="Rows in one run at most; warm-up stops below it where a run takes too long.",
    )
    max_queue_rows: int = Field(
        default=65_536,
        ge=1,
        le=2**31 - 1,
        description="Rows that may wait for one model; one more is refused with 503 and Retry-After.",
    )
    max_queue_bytes: int = Field(
        default=256 * 2**20,
        ge=2**16,
        description="Memory that the batch buffer of one model may grow to, in bytes.",
    )
    max_answer_bytes: int = Field(
        default=256 * 2**20,
        ge=2**16,
        description="Memory that the outputs of one request may take, in bytes; more rows are refused.",
    )
    max_queue_delay_us: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="How long the first waiting row may wait for others while the model is idle, in µs; "
        "0 = not at all.",
    )
    default_timeout_ms: int = Field(
        default=30_000,
        ge=0,
        le=86_400_000,
        description="Deadline of a request that names none, in ms; 0 = no deadline.",
    )
    max_run_ms: int = Field(
        default=120_000,
        ge=0,
        le=86_400_000,
        description="How long a run may take, in ms; then it is stopped and fails, and where that does not "
        "help its worker is started anew; 0 = any time.",
    )
    inline_max_us: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="A batch predicted to run this long or less runs on the event loop's own thread, in µs; "
        "unset = 1000, or 10000 where a worker has one core and a thread could not run beside the loop "
        "anyway.",
    )
    max_shape_buckets: int = Field(
        default=16,
        ge=1,
        le=1_024,
        description="Row shapes of one model that are batched apart; further shapes run unbatched.",
    )

    def overridden(self, settings: dict[str, Any]) -> "BatchingOptions":
        """Give the options of one model, whose `model.yaml` may set any of them.

        Raises
        ------
        ConfigError
            Another key, or a value out of range.
        """
        for key in settings:
            if key not in BatchingOptions.model_fields:
                near = get_close_matches(key, BatchingOptions.model_fields, 1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ConfigError(f"batching.{key[:64]} is not a setting{hint}")
        return overridden(self, settings, "batching")
