"""How long requests waited, ran and were answered: what statistics and histograms are told of it."""

from typing import Any

import pytest

from fastserve.clock import ManualClock
from fastserve.errors import ModelFailed
from fastserve.types import Array, Duration
from fastserve_core.batching import NO_DEADLINE
from tests.batching.bench import INLINE, THREADED, Bench, asynchronous, bench
from tests.batching.puppet import PuppetRuntime, rows

MS = 1_000_000


class SlowRuntime(PuppetRuntime):
    """A run takes 4 ms of the clock that it is given."""

    clock: ManualClock

    def run(self, inputs: Any) -> list[Array]:
        self.clock.advance(ms=4)
        return super().run(inputs)


class SlowSink:
    """Taking an answer takes 1 ms."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def deliver(self, outputs: list[Array], start: int, rows: int) -> None:
        self.clock.advance(ms=1)

    def fail(self, error: Exception) -> None:
        pass


async def slow(b: Bench, at_ms: int, *requests: list[Array]) -> None:
    """Ask request after request, each so long after the one before, and wait for all of them."""
    assert isinstance(b.runtime, SlowRuntime)
    b.runtime.clock = b.clock
    for request in requests:
        b.clock.advance(ms=at_ms)
        b.batcher.submit(request, len(request[0]), NO_DEADLINE, SlowSink(b.clock))
    await b.quiet()


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_every_request_is_charged_with_its_wait_and_the_whole_run(where: dict[str, Any]) -> None:
    async with bench(SlowRuntime(), **where) as b:
        await slow(b, 3, rows(1.0, 2.0), rows(3.0))
        stats = b.batcher.stats
        assert stats.queue == Duration(2, 3 * MS)
        assert stats.compute_infer == Duration(2, 2 * 4 * MS)
        assert stats.compute_output == Duration(2, 2 * 2 * MS)
        assert stats.success == Duration(2, (3 + 2 * 4 + 2 * 2) * MS)
        assert stats.batches == {3: Duration(1, 4 * MS)}
        totals = {name: total for name, (_, total) in stats.histograms.take().items()}
        assert totals == {"queue": 3 * MS, "compute": 8 * MS, "total": 15 * MS, "batch_rows": 3}


@asynchronous
async def test_those_that_ran_alone_are_charged_with_all_the_runs_of_their_batch() -> None:
    async with bench(SlowRuntime(poison=2.0)) as b:
        await slow(b, 3, rows(1.0), rows(2.0), rows(3.0))
        stats = b.batcher.stats
        took = 4 * 4 * MS
        assert stats.queue == Duration(2, 2 * 3 * MS), "each a third of what all of them waited"
        assert stats.compute_infer == Duration(2, 2 * took)
        assert stats.success == Duration(2, 2 * (3 * MS + took))
        assert stats.fail == Duration(1, took)
        totals = {name: total for name, (_, total) in stats.histograms.take().items()}
        assert totals == {
            "queue": 6 * MS,
            "compute": 2 * took,
            "total": 6 * MS + 2 * took,
            "batch_rows": 2,
        }


@asynchronous
async def test_a_split_request_whose_first_part_ran_alone_is_one_request() -> None:
    async with bench(PuppetRuntime(poison=99.0)) as b:
        bad, split = b.ask(99.0), b.ask(*[float(i) for i in range(15)])
        with pytest.raises(ModelFailed):
            await bad
        await split
        taken = b.batcher.stats.histograms.take()
        events = {name: sum(buckets.values()) for name, (buckets, _) in taken.items()}
        assert events == {"queue": 1, "compute": 1, "total": 1, "batch_rows": 2}
        assert b.batcher.stats.success.count == 1
