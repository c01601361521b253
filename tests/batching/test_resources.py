"""When memory or a thread cannot be had for a batch, its requests fail and the next ones do not."""

import asyncio
from typing import Any

import pytest

from fastserve_core.batching import NO_DEADLINE
from tests.batching.bench import INLINE, THREADED, Bench, asynchronous, bench
from tests.batching.puppet import rows


def ring_without_memory(b: Bench) -> None:
    """The next batch finds no memory for its rows."""
    real = b.batcher._prepare

    def fail(*_: Any) -> Any:
        b.batcher._prepare = real  # type: ignore[method-assign]
        raise MemoryError

    b.batcher._prepare = fail  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_a_batch_that_cannot_be_prepared_fails_and_the_next_one_runs(where: dict[str, Any]) -> None:
    async with bench(**where) as b:
        ring_without_memory(b)
        lost = [b.ask(1.0), b.ask(2.0)]
        for error in await asyncio.gather(*lost, return_exceptions=True):
            assert isinstance(error, MemoryError)
        (y,) = await b.ask(3.0)
        assert y[0, 0] == 6 and b.batcher.idle and b.batcher.queue.waiting_rows == 0
        assert b.batcher.queue.running_rows == 0


@asynchronous
async def test_what_is_left_of_a_split_request_goes_with_its_first_part() -> None:
    async with bench() as b:
        ring_without_memory(b)
        with pytest.raises(MemoryError):
            await b.ask(*range(20))
        assert b.batcher.idle and b.batcher.queue.waiting_rows == 0
        (y,) = await b.ask(*range(20))
        assert y[:, 0].tolist() == [2.0 * value for value in range(20)]


@asynchronous
async def test_a_thread_that_cannot_be_had_fails_the_batch_only() -> None:
    async with bench(**THREADED) as b:
        real = b.batcher._executor

        class NoThread:
            def submit(self, *work: Any) -> None:
                b.batcher._executor = real
                real.submit(*work)  # as ThreadPoolExecutor does before it looks for a thread
                raise RuntimeError("can't start new thread")

        b.batcher._executor = NoThread()  # type: ignore[assignment]
        with pytest.raises(RuntimeError):
            await b.ask(1.0)
        (y,) = await b.ask(3.0)
        assert y[0, 0] == 6 and b.batcher.queue.running_rows == 0


@asynchronous
async def test_an_answer_that_cannot_be_handed_over_harms_nobody_else() -> None:
    class Broken:
        def __init__(self) -> None:
            self.failures: list[Exception] = []

        def deliver(self, *_: Any) -> None:
            raise MemoryError

        def fail(self, error: Exception) -> None:
            self.failures.append(error)

    async with bench() as b:
        broken = Broken()
        first = b.ask(1.0)
        await asyncio.sleep(0)
        b.batcher.submit(rows(2.0), 1, NO_DEADLINE, broken)
        second = b.ask(3.0)
        answers = await asyncio.gather(first, second)
        assert [y[0, 0] for (y,) in answers] == [2, 6]
        assert [type(error) for error in broken.failures] == [MemoryError]
        assert b.batcher.idle
