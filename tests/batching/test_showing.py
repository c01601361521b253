"""What a version's watcher sees, and when: after the answers, before the arrays are used again."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from fastserve.types import Array
from fastserve_core.batching import NO_DEADLINE
from tests.batching.bench import THREADED, Bench, asynchronous, bench
from tests.batching.puppet import rows


class Diary:
    """A watcher that keeps copies, and a sink that notes its answer beside them."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.inputs: list[float] = []
        self.outputs: list[float] = []

    def update(self, inputs: Sequence[Array], outputs: Sequence[Array], rows: int) -> None:
        self.entries.append(f"saw {rows}")
        self.inputs += inputs[0][:, 0].tolist()
        self.outputs += outputs[0][:, 0].tolist()

    def deliver(self, outputs: list[Array], start: int, rows: int) -> None:
        self.entries.append(f"answered {rows}")

    def fail(self, error: Exception) -> None:
        self.entries.append(f"failed: {error}")


def watched(b: Bench) -> Diary:
    b.batcher.target.watch.watcher = diary = Diary()
    return diary


@asynchronous
async def test_an_idle_server_answers_first_and_watches_after() -> None:
    async with bench(max_batch_rows=4) as b:
        diary = watched(b)
        b.batcher.submit(rows(1.0, 2.0, 3.0, 4.0), 4, NO_DEADLINE, diary)
        assert diary.entries == ["answered 4"]
        await asyncio.sleep(0)
        assert diary.entries == ["answered 4", "saw 4"]
        assert diary.inputs == [1.0, 2.0, 3.0, 4.0] and diary.outputs == [2.0, 4.0, 6.0, 8.0]


@asynchronous
async def test_a_busy_server_watches_before_rows_are_written_over() -> None:
    async with bench(max_batch_rows=4) as b:
        diary = watched(b)
        values = [float(value) for value in range(200)]
        for at in range(0, 200, 4):
            b.batcher.submit(rows(*values[at : at + 4]), 4, NO_DEADLINE, diary)
        assert diary.entries == ["answered 4", *["saw 4", "answered 4"] * 49]
        await asyncio.sleep(0)
        assert diary.inputs == values and diary.outputs == [2 * value for value in values]


@pytest.mark.parametrize("size", [1, 3, 4, 9])
@asynchronous
async def test_whoever_awaits_an_answer_finds_its_rows_counted(size: int) -> None:
    async with bench(max_batch_rows=4) as b:
        diary = watched(b)
        for turn in range(20):
            values = np.arange(size) + 100.0 * turn
            await asyncio.gather(b.ask(*values), b.ask(*values))
            assert len(diary.inputs) == 2 * size * (turn + 1)
        assert sorted(diary.inputs) == sorted(b.runtime.executed)


@asynchronous
async def test_parts_that_ran_alone_are_seen_and_the_failed_one_is_not() -> None:
    async with bench() as b:
        b.runtime.poison = 1.0
        diary = watched(b)
        answers = await asyncio.gather(b.ask(1.0), b.ask(2.0), b.ask(3.0), return_exceptions=True)
        assert isinstance(answers[0], Exception)
        # The row that is poison stands first in the batch, so that the run of all three fails.
        assert diary.inputs == [2.0, 3.0] and diary.outputs == [4.0, 6.0]


@pytest.mark.parametrize("end", ["free", "housekeep"])
@asynchronous
async def test_what_takes_the_rows_away_shows_them_first(end: str) -> None:
    async with bench(max_batch_rows=4) as b:
        diary = watched(b)
        b.batcher.submit(rows(1.0, 2.0, 3.0, 4.0), 4, NO_DEADLINE, diary)
        getattr(b.batcher, end)()
        assert diary.inputs == [1.0, 2.0, 3.0, 4.0]
        await asyncio.sleep(0)
        assert diary.entries == ["answered 4", "saw 4"]


@asynchronous
async def test_a_run_on_a_thread_follows_one_that_was_not_yet_seen() -> None:
    async with bench(max_batch_rows=4, **THREADED) as b:
        diary = watched(b)
        b.batcher._inline_ns = 10**9
        b.batcher.submit(rows(1.0, 2.0, 3.0, 4.0), 4, NO_DEADLINE, diary)
        b.batcher._inline_ns = 0
        await b.ask(5.0, 6.0, 7.0, 8.0)
        assert diary.inputs == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


@asynchronous
async def test_a_request_that_runs_alone_is_seen_with_all_its_rows() -> None:
    async with bench(max_batch_rows=0) as b:
        diary = watched(b)
        b.batcher.submit(rows(1.0, 2.0, 3.0), 1, NO_DEADLINE, diary)
        await asyncio.sleep(0)
        assert diary.entries[1:] == ["saw 3"]
        assert diary.inputs == [1.0, 2.0, 3.0] and diary.outputs == [2.0, 4.0, 6.0]
