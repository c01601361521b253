"""One version that serves: its signature, its codecs, its counters, and the batchers over its runtime."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor

from fastserve.batching import Batcher, BatchingOptions, LatencyModel, Target
from fastserve.clock import Clock
from fastserve.dataplane.check import check_inputs
from fastserve.lifecycle import Loaded
from fastserve.types import Array, Signature, VersionStats
from fastserve_core.batching import NO_DEADLINE
from fastserve_core.lane import Lane
from fastserve_core.wire.decode import RequestDecoder
from fastserve_core.wire.encode import ResponseEncoder

RowShapes = tuple[tuple[int, ...], ...]


class Served:
    """What front ends hold while they answer a request. Event-loop thread only.

    Two doors: `infer` takes tensors that exist; `lane` decodes a body straight into the batch buffer.
    """

    def __init__(
        self, loaded: Loaded, loop: asyncio.AbstractEventLoop, executor: Executor, clock: Clock
    ) -> None:
        self.name = loaded.model
        self.version = str(loaded.version)
        self.signature: Signature = loaded.runtime.signature
        self.max_batch_rows = loaded.max_batch_rows
        self.options: BatchingOptions = loaded.batching
        self.stats = VersionStats()
        self.encoder = ResponseEncoder(
            self.name, self.version, [(spec.name, str(spec.datatype)) for spec in self.signature.outputs]
        )
        self._runtime = loaded.runtime
        self._latency = LatencyModel(loaded.row_ns, loaded.base_ns)
        self._loop = loop
        self._executor = executor
        self._clock = clock
        self._batchers: dict[RowShapes, Batcher] = {}
        self._alone: Batcher | None = None
        self._default_ns = self.options.default_timeout_ms * 1_000_000
        self.lane: Lane | None = self._open_lane()
        """Where connections put plain requests directly; None when every request must go through `infer`."""

    def _open_lane(self) -> Lane | None:
        """Fixed row shapes can be decoded straight into the batch buffer; others go through `infer`."""
        shapes = tuple(spec.shape[1:] for spec in self.signature.inputs)
        fixed = self.max_batch_rows > 0 and all(dim > 0 for shape in shapes for dim in shape)
        if not fixed:
            return None
        lane = self._batcher(shapes).lane
        decoder = RequestDecoder(
            [(spec.name, str(spec.datatype), spec.shape[1:]) for spec in self.signature.inputs],
            [spec.name for spec in self.signature.outputs],
        )
        lane.open(decoder, self.encoder)
        return lane

    def _batcher(self, shapes: RowShapes) -> Batcher:
        batcher = self._batchers.get(shapes)
        if batcher is None:
            if self.max_batch_rows == 0 or len(self._batchers) >= self.options.max_shape_buckets:
                if self._alone is None:
                    self._alone = self._make((), 0)
                return self._alone
            batcher = self._batchers[shapes] = self._make(shapes, self.max_batch_rows)
        return batcher

    def _make(self, shapes: RowShapes, max_batch_rows: int) -> Batcher:
        datatypes = [spec.datatype for spec in self.signature.inputs]
        target = Target(
            model=self.name,
            version=self.version,
            runtime=self._runtime,
            rows=list(zip(datatypes, shapes, strict=True)) if shapes else [],
            max_batch_rows=max_batch_rows,
            latency=self._latency,
            stats=self.stats,
        )
        return Batcher(target, self.options, self._loop, self._executor, self._clock)

    def deadline_ns(self, timeout_us: int | None) -> int:
        """Deadline on the clock of a request that asks for `timeout_us`; None, 0 or less: the default."""
        timeout_ns = timeout_us * 1_000 if timeout_us is not None and timeout_us > 0 else self._default_ns
        return min(self._clock() + timeout_ns, NO_DEADLINE) if timeout_ns else NO_DEADLINE

    async def infer(self, inputs: Mapping[str, Array], deadline_ns: int) -> list[Array]:
        """Run tensors through the queue; outputs in signature order.

        Raises
        ------
        InvalidRequest, QueueFull, DeadlineExceeded, ModelFailed, NotReady
        """
        arrays, rows = check_inputs(self.signature, inputs)
        if self.max_batch_rows == 0:
            rows = 1
            batcher = self._batcher(())
        else:
            batcher = self._batcher(tuple(array.shape[1:] for array in arrays))
            if batcher.alone:
                rows = 1
        return await batcher.infer(arrays, rows, deadline_ns)

    def pending_requests(self) -> int:
        """Requests that wait or run."""
        alone = [self._alone] if self._alone else []
        return sum(len(batcher.lane.entries) for batcher in [*self._batchers.values(), *alone])

    def housekeep(self) -> None:
        """Once a second: give back what a burst needed."""
        for batcher in self._batchers.values():
            batcher.housekeep()

    def close(self) -> None:
        """Refuse and fail what waits; what runs is still answered."""
        for batcher in [*self._batchers.values(), *([self._alone] if self._alone else [])]:
            batcher.close()
