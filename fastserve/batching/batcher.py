"""Runs one model version at one row shape: the compiled queue decides, this class runs and answers."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from fastserve.batching.latency import LatencyModel
from fastserve.batching.options import BatchingOptions
from fastserve.batching.ring import Part, Ring
from fastserve.batching.runs import Apart, Outcome, run_apart, run_batch
from fastserve.batching.sinks import FutureSink, Sink, SplitSink
from fastserve.clock import Clock, monotonic_ns
from fastserve.errors import DeadlineExceeded, NotReady, QueueFull
from fastserve.runtime.protocol import Runtime
from fastserve.types import Array, DataType, VersionStats
from fastserve_core.batching import NO_DEADLINE, Batch, BatchQueue

_MAX_BOUND = 256


@dataclass(frozen=True, slots=True)
class Target:
    """What a batcher runs: one loaded version, where its counters are, and how its rows look."""

    model: str
    version: str
    runtime: Runtime
    rows: Sequence[tuple[DataType, tuple[int, ...]]]
    """(datatype, row shape without the batch dimension) of every input, in signature order."""
    max_batch_rows: int
    """0: the model has no batch dimension, every request runs alone on its own arrays."""
    latency: LatencyModel
    stats: VersionStats = field(default_factory=VersionStats)


class Batcher:
    """Futures and callbacks over one `BatchQueue`. Event-loop thread only; runs may happen on the executor.

    Work-conserving: an idle model runs what has arrived by the end of the loop's current turn; a busy one
    takes whatever has come meanwhile as its next batch.
    """

    def __init__(
        self,
        target: Target,
        options: BatchingOptions,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        clock: Clock = monotonic_ns,
    ) -> None:
        self.target = target
        self.stats = target.stats
        self.alone = target.max_batch_rows == 0
        self._loop = loop
        self._executor = executor
        self._clock = clock
        self._latency = target.latency
        self._inline_ns = options.inline_max_us * 1_000
        self._delay_ns = options.max_queue_delay_us * 1_000
        self._limit_rows = options.max_queue_rows
        max_batch = max(target.max_batch_rows, 1)
        self._ring: Ring | None = None
        ring_rows = 1
        if not self.alone:
            row_bytes = Ring(target.rows, 0, 0).row_bytes
            ring_rows = max(max_batch, min(options.max_queue_rows, options.max_queue_bytes // max(row_bytes, 1)))
            self._ring = Ring(target.rows, ring_rows, max_batch)
        self.max_batch_rows = max_batch
        self.queue = BatchQueue(max_batch, ring_rows, options.max_queue_rows, 0 if options.enabled else 1)
        self._entries: dict[int, Sink | SplitSink] = {}
        self._held: dict[int, list[Array]] = {}
        self._bound: dict[int, Callable[[], list[Array]] | None] = {}
        self._running = False
        self._scheduled = False
        self._dispatching = False
        self._closed = False
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_ns = NO_DEADLINE

    # -- the two doors ------------------------------------------------------------------------------------

    @property
    def ring(self) -> Ring:
        """The batch buffer that codecs write into at `queue.room_row`."""
        assert self._ring is not None
        return self._ring

    def commit(self, rows: int, now_ns: int, deadline_ns: int, sink: Sink) -> int:
        """Make the `rows` rows just written at `queue.room_row` a request.

        Returns its token, or -1 when the queue is full. The sink may be called before this returns.
        """
        ring = self.ring
        top = self.queue.room_row + rows
        token = self.queue.commit(rows, deadline_ns, now_ns)
        if token >= 0:
            if top > ring.high_row:
                ring.high_row = top
            self._accept(token, rows, deadline_ns, sink)
        return token

    async def infer(self, arrays: list[Array], rows: int, deadline_ns: int) -> list[Array]:
        """Run a request whose tensors exist; outputs in signature order, arrays of their own.

        Parameters
        ----------
        arrays
            C-contiguous, in signature order, already validated: [rows, *row_shape] each.
        rows
            Rows of the request; 1 for a model without batch dimension.

        Raises
        ------
        QueueFull, DeadlineExceeded, ModelFailed, NotReady
        """
        future: asyncio.Future[list[Array]] = self._loop.create_future()
        token = self.submit(arrays, rows, deadline_ns, FutureSink(future))
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(token)
            raise

    def submit(self, arrays: list[Array], rows: int, deadline_ns: int, sink: Sink) -> int:
        """Queue a request whose tensors exist; they stay untouched until the sink is called."""
        if self._closed:
            raise NotReady(self.target.model, self.target.version, "it is being unloaded")
        queue = self.queue
        now_ns = self._clock()
        # A whole batch or more runs straight from the caller's arrays; less is copied beside its neighbours.
        if not self.alone and rows < self.max_batch_rows and queue.room() >= rows:
            self.ring.write(queue.room_row, arrays)
            token = self.commit(rows, now_ns, deadline_ns, sink)
        else:
            token = queue.push(rows, deadline_ns, now_ns)
            if token >= 0:
                self._held[token] = arrays
                self._accept(token, rows, deadline_ns, sink)
        if token < 0:
            self.stats.rejected += 1
            self.stats.fail.add(0)
            raise QueueFull(self.target.model, self._limit_rows)
        return token

    def cancel(self, token: int) -> bool:
        """Withdraw a request, waiting or running; nobody else notices. True if it was still alive."""
        if self._entries.pop(token, None) is None:
            return False
        self._held.pop(token, None)
        self.queue.cancel(token)
        self.stats.cancelled += 1
        return True

    def close(self) -> None:
        """Refuse new requests and fail those that wait; a running batch is still answered."""
        self._closed = True
        error = NotReady(self.target.model, self.target.version, "it is being unloaded")
        for token in list(self._entries):
            if self.queue.cancel(token):
                self._fail(token, error)

    def housekeep(self) -> None:
        """Once a second: memory that a burst needed goes back when nothing waits or runs."""
        if self._ring is not None and not self._entries and not self._running and self._ring.trim():
            self._bound.clear()

    # -- scheduling ---------------------------------------------------------------------------------------

    def _accept(self, token: int, rows: int, deadline_ns: int, sink: Sink) -> None:
        self._entries[token] = SplitSink(sink, rows) if rows > self.max_batch_rows else sink
        if self._running:
            if deadline_ns < self._expiry_ns:
                self._arm_expiry()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)
        if self.queue.waiting_rows >= self.max_batch_rows and not (self._running or self._dispatching):
            # A full batch gains nothing by waiting for the end of the turn, and its rows are still in the cache.
            self._dispatch()

    def _dispatch(self) -> None:
        self._scheduled = False
        if self._running or self._dispatching:
            return
        now_ns = self._clock()
        if self._delay_ns and self._hold_back(now_ns):
            return
        row_ns, base_ns = self._latency.refusal_line()
        batch = self.queue.take(now_ns, row_ns, base_ns)
        if batch is None:
            return
        if batch.expired:
            self._latency.relieve()
            self._expire(batch.expired)
        if batch.parts:
            self._dispatching = True
            try:
                if self._latency.estimate_ns(batch.rows) <= self._inline_ns:
                    self._run_inline(batch)
                else:
                    self._run_threaded(batch)
            finally:
                self._dispatching = False
        self._schedule_next()

    def _schedule_next(self) -> None:
        if self.queue.waiting_requests and not (self._running or self._scheduled):
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _hold_back(self, now_ns: int) -> bool:
        queue = self.queue
        if not queue.waiting_requests or queue.waiting_rows >= self.max_batch_rows:
            return False
        ready_ns = queue.oldest_arrival_ns + self._delay_ns
        if queue.next_deadline_ns != NO_DEADLINE:
            latest = queue.next_deadline_ns - int(self._latency.estimate_ns(queue.waiting_rows + 1))
            ready_ns = min(ready_ns, latest)
        if ready_ns <= now_ns:
            return False
        self._scheduled = True
        self._loop.call_later((ready_ns - now_ns) * 1e-9, self._dispatch)
        return True

    def _arm_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._expiry_ns = self.queue.next_deadline_ns
        if self._expiry_ns != NO_DEADLINE:
            delay_s = max(0.0, (self._expiry_ns - self._clock()) * 1e-9)
            self._expiry = self._loop.call_later(delay_s, self._on_expiry)

    def _on_expiry(self) -> None:
        self._expiry = None
        self._expiry_ns = NO_DEADLINE
        self._expire(self.queue.expire(self._clock()))
        if self._running:
            self._arm_expiry()

    def _expire(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.stats.expired += 1
            self._fail(token, DeadlineExceeded(self.target.model))

    # -- running ------------------------------------------------------------------------------------------

    def _inputs(self, batch: Batch) -> list[Array]:
        if batch.start >= 0:
            return self.ring.consecutive(batch.start, batch.rows)
        if len(batch.parts) == 1:
            token, offset, rows, place = batch.parts[0]
            if place < 0:
                arrays = self._held[token]
                return arrays if self.alone else [a[offset : offset + rows] for a in arrays]
        return self.ring.gather(batch.parts, self._held, batch.rows)

    def _run_inline(self, batch: Batch) -> None:
        began_ns = self._clock()
        bound = self._bind(batch.rows) if batch.start == 0 and not self.alone else None
        if bound is not None:
            answer = run_batch(bound, batch.rows)
            outcome = answer if isinstance(answer, list) else self._run(batch, self._inputs(batch))
        else:
            outcome = self._run(batch, self._inputs(batch))
        self._finish(batch, outcome, began_ns, self._clock())

    def _run(self, batch: Batch, inputs: list[Array]) -> Outcome:
        runtime = self.target.runtime
        answer = run_batch(lambda: runtime.run(inputs), None if self.alone else batch.rows)
        return answer if isinstance(answer, list) else run_apart(runtime, inputs, batch.parts, answer)

    def _bind(self, rows: int) -> Callable[[], list[Array]] | None:
        try:
            return self._bound[rows]
        except KeyError:
            if len(self._bound) >= _MAX_BOUND:
                return None
            self._bound[rows] = bound = self.target.runtime.bind(self.ring.consecutive(0, rows))
            return bound

    def _run_threaded(self, batch: Batch) -> None:
        self._running = True
        self._executor.submit(self._run_on_thread, batch, self._inputs(batch))
        self._arm_expiry()

    def _run_on_thread(self, batch: Batch, inputs: list[Array]) -> None:
        began_ns = self._clock()
        outcome = self._run(batch, inputs)
        self._loop.call_soon_threadsafe(self._threaded_done, batch, outcome, began_ns, self._clock())

    def _threaded_done(self, batch: Batch, outcome: Outcome, began_ns: int, ended_ns: int) -> None:
        self._running = False
        self._finish(batch, outcome, began_ns, ended_ns)
        if not self._scheduled:
            self._dispatch()

    # -- answering ----------------------------------------------------------------------------------------

    def _finish(self, batch: Batch, outcome: Outcome, began_ns: int, ended_ns: int) -> None:
        run_ns = ended_ns - began_ns
        self._latency.observe(batch.rows, run_ns)
        self.queue.finish(batch)
        if isinstance(outcome, list):
            self._count(batch, run_ns)
            self._deliver(batch.parts, outcome)
            self.stats.compute_output.add(self._clock() - ended_ns, len(batch.parts))
        else:
            self._deliver_apart(batch, outcome, run_ns)

    def _count(self, batch: Batch, run_ns: int) -> None:
        stats = self.stats
        requests = len(batch.parts)
        stats.execution_count += 1
        stats.inference_count += batch.rows
        stats.success.add(batch.queue_ns + run_ns * requests, batch.first_parts)
        stats.queue.add(batch.queue_ns, batch.first_parts)
        stats.compute_infer.add(run_ns * requests, requests)
        by_rows = stats.batches.get(batch.rows)
        if by_rows is None:
            by_rows = stats.batches.setdefault(batch.rows, type(stats.queue)())
        by_rows.add(run_ns)

    def _deliver(self, parts: Sequence[Part], outputs: list[Array]) -> None:
        entries = self._entries
        at = 0
        for token, offset, rows, _place in parts:
            sink: Any = entries.get(token)
            if sink is None:  # cancelled while it ran
                at += rows
                continue
            if type(sink) is SplitSink:
                if sink.add(outputs, at, rows, offset):
                    del entries[token]
                    self._held.pop(token, None)
                    sink.deliver_whole()
            else:
                del entries[token]
                if self._held:
                    self._held.pop(token, None)
                sink.deliver(outputs, at, -1 if self.alone else rows)
            at += rows

    def _deliver_apart(self, batch: Batch, answers: Apart, run_ns: int) -> None:
        """The batch failed as a whole and every part was tried alone."""
        stats = self.stats
        stats.execution_count += 1 + len(batch.parts)
        for part, answer in zip(batch.parts, answers, strict=True):
            if isinstance(answer, Exception):
                self.queue.cancel(part[0])  # what is left of a split request
                stats.fail.add(run_ns)
                self._fail(part[0], answer)
            else:
                stats.inference_count += part[2]
                stats.success.add(run_ns)
                self._deliver([part], answer)

    def _fail(self, token: int, error: Exception) -> None:
        entry = self._entries.pop(token, None)
        self._held.pop(token, None)
        if entry is not None:
            sink = entry.sink if isinstance(entry, SplitSink) else entry
            sink.fail(error)
