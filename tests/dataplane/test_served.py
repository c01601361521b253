"""One version as front ends hold it: how its rows are batched, when it stops mattering, how it goes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastserve.batching import BatchingOptions
from fastserve.clock import ManualClock
from fastserve.dataplane import Served
from fastserve.errors import InvalidRequest, ModelFailed, NotReady
from fastserve.lifecycle import Loaded
from fastserve.runtime import Bound
from fastserve.types import Array, DataType, Signature, TensorSpec
from fastserve_core.batching import NO_DEADLINE
from tests.batching.bench import INLINE, THREADED, asynchronous

LIMIT_BYTES = 2**16
WIDE = LIMIT_BYTES // 4 // 4
"""Of such rows of FP32 four fit."""
ROW = {"x": np.zeros((1, 2), np.float32)}


class Runtime:
    """Gives rows of any width back; remembers how many each run had."""

    provider = "cpu"

    def __init__(self) -> None:
        self.signature = Signature(
            (TensorSpec("x", DataType.FP32, (-1, -1)),), (TensorSpec("y", DataType.FP32, (-1, -1)),), True
        )
        self.runs: list[int] = []
        self.error: Exception | None = None

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        self.runs.append(inputs[0].shape[0])
        if self.error is not None:
            raise self.error
        return [inputs[0].copy()]

    def bind(self, inputs: Sequence[Array]) -> Bound | None:
        return None

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


@asynccontextmanager
async def served(runtime: Runtime, clock: ManualClock | None = None, **options: Any) -> AsyncIterator[Served]:
    batching = BatchingOptions(**{"max_queue_bytes": LIMIT_BYTES, **INLINE, **options})
    loaded = Loaded("m", 1, runtime, 8, 1.0, 1.0, batching)
    with ThreadPoolExecutor(1) as executor:
        yield Served(loaded, asyncio.get_running_loop(), executor, clock or ManualClock(1_000))


@pytest.mark.parametrize(("width", "most"), [(2, 8), (WIDE, 4), (8 * WIDE, 1)])
@asynchronous
async def test_a_batch_has_as_many_rows_as_it_may_and_fit(width: int, most: int) -> None:
    runtime, rows = Runtime(), np.arange(16 * width, dtype=np.float32).reshape(16, width)
    async with served(runtime) as one:
        (answer,) = await one.infer({"x": rows}, NO_DEADLINE)
    np.testing.assert_array_equal(answer, rows)
    assert runtime.runs == [most] * (16 // most)


@asynchronous
async def test_nothing_empty_reaches_a_model_that_needs_values() -> None:
    runtime = Runtime()
    async with served(runtime) as one:
        await one.infer({"x": np.zeros((1, 0), np.float32)}, NO_DEADLINE)
        one.loaded = replace(one.loaded, needs_values=True)
        with pytest.raises(InvalidRequest, match="which is empty"):
            await one.infer({"x": np.zeros((1, 0), np.float32)}, NO_DEADLINE)
    assert runtime.runs == [1]


@asynchronous
async def test_of_shapes_beyond_the_buckets_each_request_runs_alone() -> None:
    runtime = Runtime()
    async with served(runtime, max_shape_buckets=1) as one:
        for width in (2, 3, 4):
            await one.infer({"x": np.zeros((16, width), np.float32)}, NO_DEADLINE)
    assert runtime.runs == [8, 8, 16, 16]


@asynchronous
async def test_an_answer_takes_no_more_memory_than_one_may() -> None:
    async with served(Runtime(), max_answer_bytes=LIMIT_BYTES) as one:
        most = LIMIT_BYTES // 4
        await one.infer({"x": np.zeros((most, 1), np.float32)}, NO_DEADLINE)
        with pytest.raises(
            InvalidRequest, match=rf"would take {4 * most + 4} bytes, the limit is {4 * most}"
        ):
            await one.infer({"x": np.zeros((most + 1, 1), np.float32)}, NO_DEADLINE)


@asynchronous
async def test_when_a_request_stops_mattering() -> None:
    async with served(Runtime(), default_timeout_ms=5) as one:
        assert one.deadline_ns(1) == 1_000 + 1_000
        assert [one.deadline_ns(said) for said in (None, 0, -7)] == [1_000 + 5_000_000] * 3
        assert one.deadline_ns(2**62) == NO_DEADLINE
    async with served(Runtime(), default_timeout_ms=0) as one:
        assert [one.deadline_ns(said) for said in (None, 0)] == [NO_DEADLINE] * 2


@pytest.mark.parametrize(("limit", "after"), [(1, 1), (3, 7), (0, None)])
@asynchronous
async def test_runs_that_fail_in_a_row_are_told_of_once(
    limit: int, after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, broken = Runtime(), ModelFailed("it is broken")
    told: list[Any] = []
    async with served(runtime) as one:
        one.watch_health(limit, lambda *what: told.append((len(runtime.runs), what)))
        for error in (broken, broken, None, broken, broken, InvalidRequest("a bad row"), broken, broken):
            runtime.error = error
            with suppress(ModelFailed, InvalidRequest):
                await one.infer(ROW, NO_DEADLINE)
            await asyncio.sleep(0)
    reason = f"{limit} runs in a row failed, the last with: the model failed: it is broken"
    assert told == ([] if after is None else [(after, ("m", 1, reason))]) and not caplog.text


@asynchronous
async def test_who_has_found_it_is_waited_for() -> None:
    drained: list[bool] = []
    async with served(Runtime()) as one:
        with one.held():
            one.retire(lambda: drained.append(True))
            await asyncio.sleep(0.02)
            assert not drained
            await one.infer(ROW, NO_DEADLINE)
        await asyncio.sleep(0.02)
        assert drained == [True]


@pytest.mark.parametrize(("width", "failed"), [(2, False), (3, True)], ids=["in a batch", "alone"])
@asynchronous
async def test_what_runs_is_answered_before_it_goes_and_what_waits_until_the_server_ends(
    width: int, failed: bool
) -> None:
    class Slow(Runtime):
        def run(self, inputs: Sequence[Array]) -> list[Array]:
            assert go_on.wait(20)
            return super().run(inputs)

    go_on = threading.Event()
    drained: list[bool] = []
    async with served(Slow(), max_shape_buckets=1, **THREADED) as one:
        one._batcher(((2,),))
        row = {"x": np.ones((1, width), np.float32)}
        both = [asyncio.ensure_future(one.infer(row, NO_DEADLINE)) for _ in range(2)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert sum(len(batcher.lane.entries) for batcher in one._all_batchers()) == 2
        one.retire(lambda: drained.append(True))
        one.close()
        assert not drained
        go_on.set()
        first, second = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(first, list) and isinstance(second, NotReady if failed else list)
        await asyncio.sleep(0.02)
        assert drained == [True]


@asynchronous
async def test_memory_of_a_burst_goes_back_from_every_shape() -> None:
    async with served(Runtime()) as one:
        for width in (2, 3):
            await one.infer({"x": np.zeros((7, width), np.float32)}, NO_DEADLINE)
        before = [batcher.ring.arrays for batcher in one._batchers.values()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastserve.batching.ring._TRIM_BYTES", 0)
            one.housekeep()
        after = [batcher.ring.arrays for batcher in one._batchers.values()]
        assert len(after) == 2 and not any(new is old for new, old in zip(after, before, strict=True))


class Counting:
    """Watches as a recorder does."""

    def __init__(self) -> None:
        self.rows = 0

    def update(self, inputs: Sequence[Array], outputs: Sequence[Array], rows: int) -> None:
        self.rows += rows


@asynchronous
async def test_whoever_takes_the_counts_finds_the_rows_of_every_answer() -> None:
    runtime, watcher = Runtime(), Counting()
    seen: list[tuple[int, int]] = []
    async with served(runtime) as one:
        one.watch.watcher = watcher

        def take() -> None:
            before = watcher.rows
            one.settle()
            seen.append((before, watcher.rows))

        asking = asyncio.create_task(one.infer({"x": np.zeros((3, 2), np.float32)}, NO_DEADLINE))
        await asyncio.sleep(0)
        # Between the run and the loop's next turn, when its rows would be shown by themselves.
        asyncio.get_running_loop().call_soon(take)
        await asking
    assert (runtime.runs, seen) == ([3], [(0, 3)])
