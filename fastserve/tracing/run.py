"""What a batcher tells of a run, in words that need no OpenTelemetry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class TracedRun:
    """One batch that has run; all times on the batcher's clock, in nanoseconds."""

    model: str
    version: str
    rows: int
    requests: int
    """Requests with rows in the batch, traced or not."""
    members: Sequence[tuple[Any, int | None]]
    """(what `BatchTrace.parent` gave for it, when it arrived) of every traced request; the time is None where
    an earlier batch began the request."""
    began_ns: int
    ended_ns: int
    answered_ns: int
    """When the last member had its answer."""
    error: Exception | None
    """Why a part of the batch could not be answered."""
    apart: bool
    """The run failed for all, so every part was run again alone."""


class BatchTrace(Protocol):
    """Where a batcher's runs are told. Event-loop thread only."""

    def parent(self) -> Any:
        """The span that the request in hand belongs to; None when nobody traces it."""

    def ran(self, run: TracedRun) -> None:
        """Tell of a batch with at least one traced member, after its answers are on their way."""
