"""What a batcher runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastserve.batching.latency import LatencyModel
from fastserve.runtime.protocol import Runtime
from fastserve.types import Array, DataType, VersionStats

RowShape = tuple[DataType, tuple[int, ...]]
"""Datatype of a tensor, and the shape of one of its rows."""


class Watcher(Protocol):
    """Looks at every batch that ran."""

    def update(self, inputs: Sequence[Array], outputs: Sequence[Array], rows: int) -> None:
        """See tensors in signature order, [rows, ...] each, good until this returns; never raises."""


@dataclass(slots=True)
class Watch:
    """Where a version's watcher is looked up, since one may come while it serves."""

    watcher: Watcher | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a batcher runs: one loaded version, where its counters are, and how its rows look."""

    model: str
    version: str
    runtime: Runtime
    rows: Sequence[RowShape]
    """Of every input, in signature order."""
    max_batch_rows: int
    """0: the model has no batch dimension, every request runs alone on its own arrays."""
    latency: LatencyModel
    answer_row_bytes: int = 0
    """Bytes of a row of all outputs, those of variable dimensions taken as 1; 0 = nobody knows."""
    stats: VersionStats = field(default_factory=VersionStats)
    watch: Watch = field(default_factory=Watch)
    on_failed_run: Callable[[Exception], None] = field(default=lambda _: None)
    """Told of every run that failed for all its members."""
