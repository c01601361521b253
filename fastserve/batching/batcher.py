"""Runs one model version at one row shape: the compiled queue decides, this class runs and answers."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from fastserve.batching.alarm import Alarm
from fastserve.batching.bound import BoundRuns, Prepared
from fastserve.batching.crowd import Crowd
from fastserve.batching.options import BatchingOptions
from fastserve.batching.ring import Ring, rows_to_hold
from fastserve.batching.runs import Apart, Outcome, failures, run_apart, run_batch
from fastserve.batching.showing import Showing
from fastserve.batching.sinks import FutureSink, Sink, SplitSink
from fastserve.batching.target import Target
from fastserve.clock import Clock
from fastserve.errors import DeadlineExceeded, NotReady, QueueFull, RunStopped
from fastserve.runtime.protocol import Bound
from fastserve.types import Array
from fastserve_core.batching import Batch, BatchQueue
from fastserve_core.lane import Lane

log = logging.getLogger("fastserve.batching")

_TIMER_NS = 2_000_000  # that the loop's timers may be late


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
        clock: Clock,
    ) -> None:
        self.target = target
        self.stats = target.stats
        self.alone = target.max_batch_rows == 0
        self._loop, self._executor, self._clock = loop, executor, clock
        self._latency = target.latency
        self._inline_ns = (options.inline_max_us or 0) * 1_000
        self._delay_ns = options.max_queue_delay_us * 1_000
        self.max_batch_rows = max(target.max_batch_rows, 1)
        ring_rows = 1 if self.alone else rows_to_hold(target, options)
        most_requests = 0 if options.enabled else 1
        self.queue = BatchQueue(self.max_batch_rows, ring_rows, options.max_queue_rows, most_requests)
        self.lane = Lane(self.queue, self, clock, options.default_timeout_ms * 1_000_000)
        self._ring = None if self.alone else Ring(target.rows, ring_rows, self.max_batch_rows)
        if self._ring is not None:
            self.lane.buffers = self._ring.buffers
        self._held: dict[int, list[Array]] = {}
        self._bound = BoundRuns(target.runtime)
        self._running: Batch | None = None
        self._scheduled = self._dispatching = self._closed = False
        self._crowd = Crowd()
        self._alarm = Alarm(self.lane, loop, clock)
        self._showing = Showing(target.watch, self.lane, loop)
        self.settle = self._showing.settle

    # -- the two doors ------------------------------------------------------------------------------------

    @property
    def ring(self) -> Ring:
        """The batch buffer that codecs write into at `queue.room_row`."""
        assert self._ring is not None
        return self._ring

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
        """Queue a request whose tensors stay as they are until the turn after its answer.

        Raises
        ------
        QueueFull, NotReady
        """
        if self._closed:
            raise NotReady(self.target.model, self.target.version, "it is being unloaded")
        self.settle()
        queue, now_ns = self.queue, self._clock()
        # A whole batch or more runs straight from the caller's arrays; less is copied beside its neighbours.
        if not self.alone and rows < self.max_batch_rows and queue.room() >= rows:
            self.ring.write(queue.room_row, arrays)
            token = self.lane.commit(rows, now_ns, deadline_ns, sink)
        else:
            token = queue.push(rows, deadline_ns, now_ns)
            if token >= 0:
                self._held[token] = arrays
                self.lane.enrol(token, rows, deadline_ns, sink)
        if token < 0:
            raise self._full()
        return token

    def cancel(self, token: int) -> bool:
        """Withdraw a request, waiting or running; nobody else notices. True if it was still alive."""
        if self._forget(token) is None:
            return False
        self.queue.cancel(token)
        self.stats.cancelled += 1
        return True

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._running and not self.lane.entries

    def free(self) -> None:
        """Let go of everything once idle: buffers, bound runs, circles of references."""
        self.close()
        self.settle()
        self._alarm.clear()
        self._bound.clear()
        self._ring = None
        self.lane.close()

    def close(self) -> None:
        """Refuse new requests and fail those that wait; a running batch is still answered."""
        self._closed = True
        error = NotReady(self.target.model, self.target.version, "it is being unloaded")
        for token in list(self.lane.entries):
            if self.queue.cancel(token):
                self._fail(token, error)

    def housekeep(self) -> None:
        """Once a second: memory that a burst needed goes back when nothing waits or runs."""
        ring = self._ring
        if ring is None or self.lane.entries or self._running:
            return
        self.settle()
        if ring.trim(self.lane.high_row):
            self._bound.clear()
            self.lane.buffers = ring.buffers
        self.lane.high_row = 0

    # -- scheduling ---------------------------------------------------------------------------------------

    def refuse(self, sink: Sink) -> None:
        """Turn a request away because the queue is full."""
        sink.fail(self._full())

    def _full(self) -> QueueFull:
        self.stats.rejected += 1
        self.stats.fail.add(0)
        return QueueFull(self.target.model, self.queue.max_queue_rows)

    def split(self, sink: Sink, rows: int) -> SplitSink:
        """Wrap the sink of a request that is larger than a batch."""
        return SplitSink(sink, rows)

    def wake(self, deadline_ns: int) -> None:
        """A commit made a difference: the model is idle, a batch is full, or its deadline is the first."""
        if self._running:
            if deadline_ns < self.lane.alarm_ns:
                self._watch_deadlines()
            return
        if not self._scheduled:
            self._schedule()
        if self.queue.waiting_rows >= self.max_batch_rows or deadline_ns < self.lane.alarm_ns:
            # A full batch gains nothing by waiting, and its rows are still cached; a deadline may be near.
            self._dispatch()

    def _schedule(self) -> None:
        self._scheduled = True
        self.lane.asleep = False
        self._loop.call_soon(self._on_turn_end)

    def _on_turn_end(self) -> None:
        if self._crowd.grows(self.queue.waiting_rows, self.max_batch_rows):
            self._loop.call_soon(self._on_turn_end)
            return
        self._scheduled = False
        self._dispatch()

    def _dispatch(self) -> None:
        if self._running or self._dispatching:
            return
        self._dispatching = True
        try:
            now_ns = self._clock()
            if not (self._delay_ns and self._hold_back(now_ns)):
                self._run_next(now_ns)
        finally:
            self._dispatching = False
            self._rest()

    def _rest(self) -> None:
        """Come back for what still waits, or sleep until the next commit."""
        awake = self._running or self._scheduled
        if self.queue.waiting_requests and not awake:
            self._schedule()
        else:
            self.lane.asleep = not awake

    def _run_next(self, now_ns: int) -> None:
        self.settle()
        row_ns, base_ns = self._latency.refusal_line()
        batch = self.queue.take(now_ns, row_ns, base_ns)
        if batch is None:
            return
        if batch.expired:
            self._latency.relieve()
            self._expire(batch.expired)
        if not batch.rows:
            return
        # A model that has run without end may do so again, and the loop's thread serves all others too.
        inline = not self.stats.stopped_runs and self._latency.estimate_ns(batch.rows) <= self._inline_ns
        try:
            run, inputs = self._prepare(batch, inline)
            if not inline:
                self._running = batch
                self._executor.submit(self._run_on_thread, batch, inputs)
        except Exception as error:  # noqa: BLE001 - no memory, no thread: the next batch may have both
            self._running = None
            self._give_up(batch, error)
            return
        if inline:
            self._run_inline(batch, run, inputs)
        else:
            self._watch_deadlines()

    def _hold_back(self, now_ns: int) -> bool:
        queue = self.queue
        if self._alarm.clear():
            self._scheduled = False
        if not queue.waiting_requests or queue.waiting_rows >= self.max_batch_rows:
            return False
        run_ns = int(self._latency.estimate_ns(queue.waiting_rows + 1)) + _TIMER_NS
        ready_ns = min(queue.oldest_arrival_ns + self._delay_ns, queue.next_deadline_ns - run_ns)
        if ready_ns <= now_ns:
            return False
        self._scheduled = True
        self._alarm.set(ready_ns + run_ns, ready_ns, self._on_turn_end)
        return True

    def _watch_deadlines(self) -> None:
        """While the model is busy, answer a passing deadline when it passes, not when the run ends."""
        deadline_ns = self.queue.next_deadline_ns
        self._alarm.set(deadline_ns, deadline_ns, self._on_expiry)

    def _on_expiry(self) -> None:
        self._expire(self.queue.expire(self._clock()))
        if self._running:
            self._watch_deadlines()

    def _expire(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.stats.expired += 1
            self.stats.fail.add(0)
            self._fail(token, DeadlineExceeded(self.target.model))

    # -- running and answering ----------------------------------------------------------------------------

    def _prepare(self, batch: Batch, inline: bool) -> Prepared:
        """The rows of a batch, and a run that is bound to them where there is one."""
        if batch.start == 0 and inline and not self.alone:
            return self._bound.get(self.ring, batch.rows)
        if batch.start >= 0:
            return None, self.ring.consecutive(batch.start, batch.rows)
        token, offset, rows, _place = batch.parts[0]
        if len(batch.parts) > 1:
            return None, self.ring.gather(batch.parts, self._held, batch.rows)
        arrays = self._held[token]
        return None, arrays if self.alone else [a[offset : offset + rows] for a in arrays]

    def _run_inline(self, batch: Batch, run: Bound | None, inputs: list[Array]) -> None:
        began_ns = self._clock()
        outcome = self._run(batch, inputs, run)
        ended_ns = self._clock()
        self._showing.later(batch, inputs, outcome)
        self._finish(batch, outcome, began_ns, ended_ns)

    def _run(self, batch: Batch, inputs: list[Array], bound: Bound | None = None) -> Outcome:
        runtime, rows = self.target.runtime, None if self.alone else batch.rows
        answer = None if bound is None else run_batch(bound, rows)
        if not isinstance(answer, list | RunStopped):
            answer = run_batch(lambda: runtime.run(inputs), rows)
        alive, clock = self.lane.entries, self._clock
        return answer if isinstance(answer, list) else run_apart(runtime, inputs, batch, answer, alive, clock)

    def _run_on_thread(self, batch: Batch, inputs: list[Array]) -> None:
        if self._running is not batch:
            return  # it was given up, but an executor that finds no thread keeps what it was given
        began_ns = self._clock()
        outcome = self._run(batch, inputs)
        ended_ns = self._clock()
        self._showing.now(batch, inputs, outcome)
        self._loop.call_soon_threadsafe(self._threaded_done, batch, outcome, began_ns, ended_ns)

    def _threaded_done(self, batch: Batch, outcome: Outcome, began_ns: int, ended_ns: int) -> None:
        if self._running is not batch:
            return
        self._running = None
        self._alarm.clear()
        try:
            self._finish(batch, outcome, began_ns, ended_ns)
        finally:
            self._dispatch()

    def _finish(self, batch: Batch, outcome: Outcome, began_ns: int, ended_ns: int) -> None:
        run_ns = ended_ns - began_ns
        self._latency.observe(batch.rows, run_ns)
        self.queue.finish(batch)
        if isinstance(outcome, list):
            for token, offset, rows, at in self.lane.deliver(batch, outcome):
                self._deliver(token, offset, rows, outcome, at)
            output_ns = self._clock() - ended_ns
            self.stats.count_run(batch.rows, batch.last_parts, batch.queue_ns, run_ns, output_ns)
            self.stats.histograms.observe(batch, run_ns, output_ns)
        else:
            self._deliver_apart(batch, outcome, run_ns)

    def broke(self, error: Exception) -> None:
        """Log what went wrong as one connection took its answer; its batch mates have theirs."""
        log.error("an answer could not be given", exc_info=error)

    def _deliver(self, token: int, offset: int, rows: int, outputs: list[Array], at: int) -> None:
        """Hand rows [at, at + rows) of the outputs to whoever waits for the token: nobody after a cancel."""
        sink: Any = self.lane.entries.get(token)
        if sink is None:
            return
        try:
            if type(sink) is SplitSink:
                if sink.add(outputs, at, rows, offset):
                    self._forget(token)
                    sink.deliver_whole()
            else:
                self._forget(token)
                sink.deliver(outputs, at, -1 if self.alone else rows)
        except Exception as error:  # noqa: BLE001 - no memory for one answer: the others get theirs
            self.queue.cancel(token)
            self._forget(token)
            sink.fail(error)

    def _deliver_apart(self, batch: Batch, answers: Apart, run_ns: int) -> None:
        """The batch failed as a whole and every part was tried alone."""
        stats = self.stats
        stats.execution_count += 1
        stats.failed_runs += bool(failed := failures(answers))
        queue_ns = batch.queue_ns // len(batch.parts)
        for (token, offset, rows, _place), answer in zip(batch.parts, answers, strict=True):
            if isinstance(answer, Exception):
                self.queue.cancel(token)  # what is left of a split request
                stats.execution_count += len(answers) > 1  # a batch of one is not run again
                stats.fail.add(run_ns)
                stats.stopped_runs += isinstance(answer, RunStopped)
                self._fail(token, answer)
            else:
                self._deliver(token, offset, rows, answer, 0)
                stats.count_run(rows, last := token not in self.lane.entries, queue_ns, run_ns, 0)
                stats.histograms.observe_alone(rows, queue_ns, run_ns, last)
        if failed and stats.failed_runs:
            self.target.on_failed_run(failed[0])

    def _give_up(self, batch: Batch, error: Exception) -> None:
        """Nobody could run the batch: its members hear why."""
        self.queue.finish(batch)
        for token, _offset, _rows, _place in batch.parts:
            self.queue.cancel(token)  # what is left of a split request
            self.stats.fail.add(0)
            self._fail(token, error)

    def _fail(self, token: int, error: Exception) -> None:
        sink = self._forget(token)
        if sink is not None:
            sink.fail(error)

    def _forget(self, token: int) -> Any:
        """Forget a token; give the sink that waited for it, None without one."""
        self._held.pop(token, None)
        return self.lane.entries.pop(token, None)
