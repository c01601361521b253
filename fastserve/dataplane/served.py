"""One version that serves: its signature, its codecs, its counters, and the batchers over its runtime."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager

from fastserve.batching import Batcher, BatchingOptions, LatencyModel, Target, TracedBatcher, Watch
from fastserve.batching.ring import least_rows, most_rows, row_bytes
from fastserve.batching.target import RowShape
from fastserve.clock import Clock, monotonic_ns
from fastserve.dataplane.check import check_inputs
from fastserve.errors import InvalidRequest
from fastserve.lifecycle import Loaded
from fastserve.tracing import BatchTrace
from fastserve.types import Array, Signature, VersionStats
from fastserve_core.batching import NO_DEADLINE
from fastserve_core.lane import Lane
from fastserve_core.wire.decode import RequestDecoder
from fastserve_core.wire.encode import ResponseEncoder

_DRAIN_LOOK_S = 0.005

RowShapes = tuple[tuple[int, ...], ...]


class Served:
    """What front ends hold while they answer a request. Event-loop thread only.

    Two doors: `infer` takes tensors that exist; `lane` decodes a body straight into the batch buffer.
    """

    def __init__(
        self,
        loaded: Loaded,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        clock: Clock = monotonic_ns,
        trace: BatchTrace | None = None,
    ) -> None:
        self.name = loaded.model
        self.number = loaded.version
        self.version = str(loaded.version)
        self.loaded = loaded
        self.signature: Signature = loaded.runtime.signature
        self.max_batch_rows = loaded.max_batch_rows
        self.example_shapes = loaded.example_shapes
        self.options: BatchingOptions = loaded.batching
        self.stats = VersionStats()
        self.watch = Watch()
        self.unwatched = ""
        """Why its rows are not watched, while no recorder is there."""
        self._fast_answers = 0
        self.encoder = ResponseEncoder(
            self.name, self.version, [(spec.name, str(spec.datatype)) for spec in self.signature.outputs]
        )
        self._answer_row_bytes = row_bytes(least_rows(self.signature.outputs))
        self._latency = LatencyModel(loaded.row_ns, loaded.base_ns)
        self._loop = loop
        self._executor = executor
        self._clock = clock
        self._trace = trace
        self._batchers: dict[RowShapes, Batcher] = {}
        self._alone: Batcher | None = None
        self._default_ns = self.options.default_timeout_ms * 1_000_000
        self._holders = 0
        self._sick_after_runs = 0
        """How many runs in a row may fail; 0: any, or it has been told."""
        self._tell_sick: Callable[[str, int, str], None] = lambda *_: None
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
        """Find or make the batcher of these row shapes; beyond the buckets it is the one without batches."""
        batcher = self._batchers.get(shapes)
        if batcher is not None:
            return batcher
        if self.max_batch_rows > 0 and len(self._batchers) < self.options.max_shape_buckets:
            rows = list(zip((spec.datatype for spec in self.signature.inputs), shapes, strict=True))
            # A client may choose dimensions so large that the buffer does not hold a whole batch.
            most = most_rows(self.max_batch_rows, rows, self.options)
            batcher = self._batchers[shapes] = self._make(rows, most)
            return batcher
        if self._alone is None:
            self._alone = self._make([], 0)
        return self._alone

    def _make(self, rows: list[RowShape], max_batch_rows: int) -> Batcher:
        target = Target(
            model=self.name,
            version=self.version,
            runtime=self.loaded.runtime,
            rows=rows,
            max_batch_rows=max_batch_rows,
            latency=self._latency,
            answer_row_bytes=self._answer_row_bytes,
            stats=self.stats,
            watch=self.watch,
            on_failed_run=self._on_failed_run,
        )
        if self._trace is not None:
            return TracedBatcher(self._trace, target, self.options, self._loop, self._executor, self._clock)
        return Batcher(target, self.options, self._loop, self._executor, self._clock)

    def deadline_ns(self, timeout_us: int | None) -> int:
        """When a request that asks for `timeout_us` stops mattering; None, 0 or less: the default."""
        timeout_ns = timeout_us * 1_000 if timeout_us is not None and timeout_us > 0 else self._default_ns
        return min(self._clock() + timeout_ns, NO_DEADLINE) if timeout_ns else NO_DEADLINE

    async def infer(self, inputs: Mapping[str, Array], deadline_ns: int) -> list[Array]:
        """Answer tensors with tensors, batched with whoever else asks; outputs in signature order.

        Raises
        ------
        InvalidRequest, QueueFull, DeadlineExceeded, ModelFailed, NotReady
        """
        arrays, rows = check_inputs(self.signature, inputs, self.loaded.needs_values)
        self._check_answer(rows)
        batcher = self._batcher(tuple(array.shape[1:] for array in arrays) if self.max_batch_rows else ())
        return await batcher.infer(arrays, 1 if batcher.alone else rows, deadline_ns)

    def _check_answer(self, rows: int) -> None:
        """Refuse rows whose outputs would take more memory than one request may; a batch always may."""
        size, limit = rows * self._answer_row_bytes, self.options.max_answer_bytes
        if size > limit and rows > max(self.max_batch_rows, 1):
            raise InvalidRequest(
                f"inputs: the answer to {rows} rows would take {size} bytes, the limit is {limit}: "
                "send fewer rows",
                "inputs",
            )

    def fast_answers(self) -> int:
        """Requests that the compiled path has answered with outputs."""
        return self._fast_answers if self.lane is None else self.lane.answered

    def settle(self) -> None:
        """Show the watcher every row that has been answered."""
        for batcher in self._all_batchers():
            batcher.settle()

    def waiting_rows(self) -> int:
        """Rows that wait for a run."""
        return sum(batcher.queue.waiting_rows for batcher in self._all_batchers())

    def housekeep(self) -> None:
        """Once a second: give back what a burst needed."""
        for batcher in self._batchers.values():
            batcher.housekeep()

    # -- coming and going ---------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the version while a request that has found it is still being read or answered."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1

    def watch_health(self, limit_runs: int, sick: Callable[[str, int, str], None]) -> None:
        """Call `sick(model, version, reason)` once `limit_runs` runs in a row have failed; 0: never."""
        self._sick_after_runs, self._tell_sick = limit_runs, sick

    def _on_failed_run(self, error: Exception) -> None:
        if 0 < self._sick_after_runs <= self.stats.failed_runs:
            self._sick_after_runs = 0
            reason = f"{self.stats.failed_runs} runs in a row failed, the last with: {error}"
            # Not from within the run: who withdraws also takes this version's batchers apart.
            self._loop.call_soon(self._tell_sick, self.name, self.number, reason)

    def retire(self, drained: Callable[[], None]) -> None:
        """No address leads here any more: call `drained` when all that came before is answered."""
        if self._holders or not all(batcher.idle for batcher in self._all_batchers()):
            self._loop.call_later(_DRAIN_LOOK_S, self.retire, drained)
            return
        self._fast_answers = self.fast_answers()
        for batcher in self._all_batchers():
            batcher.free()
        self._batchers.clear()
        self._alone = self.lane = None
        drained()

    def _all_batchers(self) -> list[Batcher]:
        return [*self._batchers.values(), *([self._alone] if self._alone else [])]

    def close(self) -> None:
        """Refuse and fail what waits; what runs is still answered."""
        for batcher in self._all_batchers():
            batcher.close()
