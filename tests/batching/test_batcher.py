"""The batcher over a puppet runtime: who runs with whom, who never runs, and that neighbours are never harmed."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from fastserve.batching import LatencyModel
from fastserve.errors import DeadlineExceeded, ModelFailed, NotReady, QueueFull, RunStopped
from fastserve.types import Array
from tests.batching.bench import INLINE, THREADED, asynchronous, bench
from tests.batching.puppet import PuppetRuntime


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_answers_are_those_of_the_rows_asked(where: dict[str, Any]) -> None:
    async with bench(**where) as b:
        tasks = [b.ask(float(i), float(i) + 0.5) for i in range(10)]
        for i, task in enumerate(tasks):
            (y,) = await task
            np.testing.assert_array_equal(y[:, 0], [2.0 * i, 2.0 * i + 1.0])
        assert sorted(b.runtime.executed) == sorted(v for i in range(10) for v in (float(i), i + 0.5))
        assert b.batcher.stats.inference_count == 20
        assert b.batcher.stats.success.count == 10


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_a_watcher_that_fails_costs_nobody_an_answer(
    where: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def update(self, *_: object) -> None:
            raise RuntimeError(f"with {where}")

    async with bench(**where) as b:
        b.batcher.target.watch.watcher = Failing()
        for i in range(10):
            (y,) = await b.ask(float(i))
            assert y[0, 0] == 2.0 * i
    assert caplog.text.count(f"rows that ran were not watched: with {where}") == 1


@asynchronous
async def test_an_idle_model_runs_what_arrived_in_this_turn_together() -> None:
    async with bench() as b:
        await asyncio.gather(*[b.ask(float(i)) for i in range(5)])
        assert b.runtime.batches == [[0.0, 1.0, 2.0, 3.0, 4.0]]


@asynchronous
async def test_a_busy_model_takes_what_came_meanwhile_as_its_next_batch() -> None:
    async with bench(**THREADED) as b:
        first = await b.busy()
        tasks = [b.ask(float(i)) for i in range(6)]
        await asyncio.sleep(0)
        b.free()
        await asyncio.gather(first, *tasks)
        assert b.runtime.batches == [[1000.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]


@asynchronous
async def test_batching_switched_off_runs_every_request_alone() -> None:
    async with bench(enabled=False) as b:
        await asyncio.gather(*[b.ask(float(i), float(i)) for i in range(4)])
        assert b.runtime.batches == [[float(i)] * 2 for i in range(4)]


@pytest.mark.parametrize("chosen", [[0], [2], [4], [0, 1, 2, 3, 4]], ids=["first", "middle", "last", "all"])
@asynchronous
async def test_cancelled_while_waiting_never_runs_and_harms_nobody(chosen: list[int]) -> None:
    async with bench(**THREADED) as b:
        first = await b.busy()
        tasks = [b.ask(float(i)) for i in range(5)]
        await asyncio.sleep(0)
        for i in chosen:
            tasks[i].cancel()
        await asyncio.sleep(0)
        b.free()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)
        for i, result in enumerate(results[1:]):
            if i in chosen:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert isinstance(result, list)
                assert result[0][0, 0] == 2.0 * i
        assert b.runtime.executed == [1000.0, *[float(i) for i in range(5) if i not in chosen]]
        assert b.batcher.stats.cancelled == len(chosen)
        (y,) = await b.ask(7.0)
        assert y[0, 0] == 14.0


@pytest.mark.parametrize("chosen", [[0], [2], [4], [0, 1, 2, 3, 4]], ids=["first", "middle", "last", "all"])
@asynchronous
async def test_cancelled_while_running_harms_nobody(chosen: list[int]) -> None:
    async with bench(**THREADED) as b:
        first = await b.busy()
        tasks = [b.ask(float(i)) for i in range(5)]
        await asyncio.sleep(0)
        b.free()
        await first
        b.runtime.gate.clear()
        for i in chosen:
            tasks[i].cancel()
        await asyncio.sleep(0)
        b.free()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [r for i, r in enumerate(results) if i not in chosen]
        assert all(isinstance(r, list) for r in kept)
        assert [r[0][0, 0] for r in kept if isinstance(r, list)] == [
            2.0 * i for i in range(5) if i not in chosen
        ]
        assert not b.batcher.lane.entries
        assert not b.batcher._held


@asynchronous
async def test_a_deadline_that_passed_is_never_executed() -> None:
    async with bench(**THREADED) as b:
        first = await b.busy()
        late = b.ask(1.0, deadline_ns=b.clock() + 5_000_000)
        good = b.ask(2.0, deadline_ns=b.clock() + 500_000_000)
        await asyncio.sleep(0)
        b.clock.advance(ms=10)
        b.free()
        (y,) = await good
        assert y[0, 0] == 4.0
        with pytest.raises(DeadlineExceeded):
            await late
        await first
        assert 1.0 not in b.runtime.executed
        assert b.batcher.stats.expired == 1


@asynchronous
async def test_a_deadline_is_answered_while_the_model_is_still_busy() -> None:
    async with bench(**THREADED) as b:
        first = await b.busy()
        late = b.ask(1.0, deadline_ns=b.clock() + 1_000_000)
        await asyncio.sleep(0)
        b.clock.advance(ms=2)
        with pytest.raises(DeadlineExceeded):
            await late
        assert not first.done()
        b.free()
        await first
        assert b.runtime.executed == [1000.0]


@asynchronous
async def test_a_deadline_that_cannot_be_met_is_refused_and_the_refusal_wears_off() -> None:
    async with bench(latency=LatencyModel(0.0, 50_000_000.0)) as b:
        with pytest.raises(DeadlineExceeded):
            await b.ask(1.0, deadline_ns=b.clock() + 10_000_000)
        for _ in range(60):
            try:
                await b.ask(2.0, deadline_ns=b.clock() + 10_000_000)
                break
            except DeadlineExceeded:
                continue
        assert b.runtime.executed == [2.0]


@asynchronous
async def test_the_earliest_deadline_runs_first() -> None:
    async with bench(max_batch_rows=2, **THREADED) as b:
        first = await b.busy()
        now = b.clock()
        tasks = [b.ask(float(i), deadline_ns=now + (10 - i) * 1_000_000_000) for i in range(4)]
        await asyncio.sleep(0)
        b.free()
        await asyncio.gather(first, *tasks)
        assert b.runtime.batches[1:] == [[3.0, 2.0], [1.0, 0.0]]


@asynchronous
async def test_a_full_queue_refuses_and_forgets() -> None:
    async with bench(max_queue_rows=8, **THREADED) as b:
        first = await b.busy()
        tasks = [b.ask(float(i), float(i)) for i in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await b.ask(9.0)
        b.free()
        await asyncio.gather(first, *tasks)
        assert 9.0 not in b.runtime.executed
        assert b.batcher.stats.rejected == 1
        (y,) = await b.ask(9.0)
        assert y[0, 0] == 18.0


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@pytest.mark.parametrize("size", [8, 9, 16, 61, 200])
@asynchronous
async def test_a_request_larger_than_a_batch_is_split_and_put_together(
    size: int, where: dict[str, Any]
) -> None:
    async with bench(max_queue_rows=256, **where) as b:
        small = b.ask(-1.0)
        (y,) = await b.ask(*[float(i) for i in range(size)])
        np.testing.assert_array_equal(y[:, 0], 2.0 * np.arange(size))
        np.testing.assert_array_equal(y[:, 1], -2.0 * np.arange(size))
        assert (await small)[0][0, 0] == -2.0
        assert max(len(batch) for batch in b.runtime.batches) <= 8
        assert b.batcher.stats.success.count == 2
        assert not b.batcher._held and b.batcher.idle


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_a_row_that_breaks_the_run_harms_only_its_own_request(where: dict[str, Any]) -> None:
    async with bench(PuppetRuntime(poison=3.0), **where) as b:
        tasks = [b.ask(float(i)) for i in range(6)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for i, result in enumerate(results):
            if i == 3:
                assert isinstance(result, ModelFailed)
            else:
                assert isinstance(result, list)
                assert result[0][0, 0] == 2.0 * i
        assert b.batcher.stats.fail.count == 1


class Stopped(PuppetRuntime):
    """A row whose first value is 0 takes longer than it may."""

    def run(self, inputs: Any) -> list[Array]:
        self.thread = threading.current_thread()
        outputs = super().run(inputs)
        if 0.0 in inputs[0]:
            raise RunStopped
        return outputs

    def bind(self, inputs: Any) -> Any:
        return lambda: self.run(inputs)


@pytest.mark.parametrize("mates", [0, 2])
@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_a_batch_that_was_stopped_is_not_run_as_a_whole_again(
    where: dict[str, Any], mates: int
) -> None:
    async with bench(Stopped(), **where) as b:
        values = [float(i) for i in range(1 + mates)]
        first, *others = await asyncio.gather(*map(b.ask, values), return_exceptions=True)
        assert isinstance(first, RunStopped) and not any(isinstance(other, Exception) for other in others)
        assert b.runtime.batches == [values, *([value] for value in values if mates)]


@asynchronous
async def test_who_left_while_a_batch_failed_is_not_run_alone() -> None:
    async with bench(Stopped(), **THREADED) as b:
        b.runtime.gate.clear()
        left, *others = [b.ask(float(i)) for i in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(b.runtime.entered.wait, 20)
        left.cancel()
        await asyncio.sleep(0)
        b.free()
        assert [y[0, 0] for (y,) in await asyncio.gather(*others)] == [2.0, 4.0]
        assert b.runtime.batches == [[0.0, 1.0, 2.0], [1.0], [2.0]]


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_of_a_batch_that_was_stopped_nobody_is_run_whose_deadline_came_meanwhile(
    where: dict[str, Any],
) -> None:
    class Slow(Stopped):
        def run(self, inputs: Any) -> list[Array]:
            b.clock.advance(ns=100)
            return super().run(inputs)

    async with bench(Slow(), latency=LatencyModel(0.0, 0.0), **where) as b:
        spans_ns = {3.0: 50, 0.0: 150, 1.0: 180, 2.0: 400}
        asked = [b.ask(value, deadline_ns=b.clock() + span) for value, span in spans_ns.items()]
        results = await asyncio.gather(*asked, b.ask(4.0), return_exceptions=True)
        assert [isinstance(one, RunStopped) for one in results] == [True, True, True, False, False]
        assert b.runtime.batches[1:] == [[0.0], [2.0], [4.0]]
        late = [b.ask(value, deadline_ns=b.clock() + 50) for value in (0.0, 1.0)]
        results = await asyncio.gather(*late, return_exceptions=True)
        assert [isinstance(one, RunStopped) for one in results] == [True, True]
        assert b.runtime.batches[4:] == [[0.0, 1.0]] and b.batcher.stats.failed_runs == 1


@asynchronous
async def test_what_had_to_be_stopped_runs_beside_the_loop_from_then_on() -> None:
    runtime, threads = Stopped(), []
    async with bench(runtime) as b:
        for value in (1.0, 0.0, 1.0):
            await asyncio.gather(b.ask(value), return_exceptions=True)
            threads.append(runtime.thread is threading.main_thread())
    assert threads == [True, True, False]


@pytest.mark.parametrize("given", [0, 1, 4, None], ids=["none", "fewer", "more", "a scalar"])
@asynchronous
async def test_a_model_that_gives_another_number_of_rows_has_failed(given: int | None) -> None:
    class Dropping(PuppetRuntime):
        def run(self, inputs: Any) -> list[Array]:
            super().run(inputs)
            return [np.zeros(() if given is None else (given, 2), np.float32)]

    async with bench(Dropping()) as b:
        answers = await asyncio.gather(b.ask(1.0, 2.0), b.ask(3.0, 4.0, 5.0), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailed, ModelFailed]
        assert b.batcher.stats.success.count == 0 and b.batcher.stats.failed_runs == 1


@asynchronous
async def test_parts_of_a_request_that_have_other_shapes_are_not_put_together() -> None:
    """Although NumPy would stretch one value over the width of the others."""

    class Narrowing(PuppetRuntime):
        def run(self, inputs: Any) -> list[Array]:
            (y,) = super().run(inputs)
            return [y if len(y) == 8 else y[:, :1]]

    async with bench(Narrowing()) as b:
        with pytest.raises(ModelFailed, match=r"shapes \(2,\) and \(1,\)"):
            await b.ask(*[float(i) for i in range(20)])
        assert b.batcher.idle and not b.batcher._held
        (y,) = await b.ask(*[float(i) for i in range(8)])
        assert y.shape == (8, 2)


@asynchronous
async def test_a_split_request_that_fails_in_the_end_is_no_success() -> None:
    async with bench(PuppetRuntime(poison=12.0)) as b:
        with pytest.raises(ModelFailed):
            await b.ask(*[float(i) for i in range(20)])
        stats = b.batcher.stats
        assert (stats.success.count, stats.fail.count) == (0, 1)
        assert stats.execution_count == len(b.runtime.batches) == 2


@asynchronous
async def test_the_first_row_may_wait_for_others_when_told_to() -> None:
    async with bench(max_queue_delay_us=20_000) as b:
        first = b.ask(1.0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not b.runtime.batches
        second = b.ask(2.0)
        b.clock.advance(ms=25)
        await asyncio.gather(first, second)
        assert b.runtime.batches == [[1.0, 2.0]]


@asynchronous
async def test_closing_fails_what_waits_and_answers_what_runs() -> None:
    async with bench(**THREADED) as b:
        first = await b.busy()
        waiting = b.ask(1.0)
        await asyncio.sleep(0)
        b.batcher.close()
        with pytest.raises(NotReady):
            await waiting
        with pytest.raises(NotReady):
            await b.ask(2.0)
        b.free()
        (y,) = await first
        assert y[0, 0] == 2000.0
