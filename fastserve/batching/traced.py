"""The batcher of a server that is traced: it tells which request was in which run, and when.

A class of its own, so that a server without tracing does not even ask.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from fastserve.batching.batcher import Batcher
from fastserve.batching.options import BatchingOptions
from fastserve.batching.runs import Outcome
from fastserve.batching.sinks import Sink, SplitSink
from fastserve.batching.target import Target
from fastserve.clock import Clock
from fastserve.tracing import BatchTrace, TracedRun
from fastserve.types import Array
from fastserve_core.batching import Batch


class TracedSink:
    """Another sink, with the span that its request belongs to and when it arrived."""

    __slots__ = ("arrived_ns", "parent", "sink")

    def __init__(self, sink: Sink, parent: Any, arrived_ns: int) -> None:
        self.sink = sink
        self.parent = parent
        self.arrived_ns = arrived_ns

    def deliver(self, outputs: list[Array], start: int, rows: int) -> None:
        """Pass the answer on."""
        self.sink.deliver(outputs, start, rows)

    def fail(self, error: Exception) -> None:
        """Pass the error on."""
        self.sink.fail(error)


class TracedBatcher(Batcher):
    """A batcher that tells a `BatchTrace` of every run with a traced member. Event-loop thread only."""

    def __init__(
        self,
        trace: BatchTrace,
        target: Target,
        options: BatchingOptions,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        clock: Clock,
    ) -> None:
        super().__init__(target, options, loop, executor, clock)
        self._trace = trace

    def submit(self, arrays: list[Array], rows: int, deadline_ns: int, sink: Sink) -> int:
        """Queue a request, and remember the span that it belongs to."""
        parent = self._trace.parent()
        if parent is not None:
            sink = TracedSink(sink, parent, self._clock())
        return super().submit(arrays, rows, deadline_ns, sink)

    def _finish(self, batch: Batch, outcome: Outcome, began_ns: int, ended_ns: int) -> None:
        # Whoever is answered is forgotten, so this comes first.
        members = self._members(batch)
        super()._finish(batch, outcome, began_ns, ended_ns)
        if members:
            apart = isinstance(outcome, tuple)
            run = TracedRun(
                self.target.model,
                self.target.version,
                batch.rows,
                len(batch.parts),
                members,
                began_ns,
                ended_ns,
                self._clock(),
                next((one for one in outcome if isinstance(one, Exception)), None) if apart else None,
                apart,
            )
            # Not now: answers go first, and whatever happens in there is not the batcher's business.
            self._loop.call_soon(self._trace.ran, run)

    def _members(self, batch: Batch) -> Sequence[tuple[Any, int | None]]:
        entries, found = self.lane.entries, []
        for token, offset, _rows, _place in batch.parts:
            entry = entries.get(token)
            sink = entry.sink if isinstance(entry, SplitSink) else entry
            if isinstance(sink, TracedSink):
                found.append((sink.parent, sink.arrived_ns if offset == 0 else None))
        return found
