"""A batch that is kept back for company runs once it is full, and before the first deadline in it passes."""

import asyncio

import pytest

from fastserve_core.batching import NO_DEADLINE
from tests.batching.bench import asynchronous, bench

MS = 1_000_000


@pytest.mark.parametrize("deadlines_ms", [[60], [None, 60], [None, None, 300, 60], [500, 60, 400]])
@asynchronous
async def test_a_near_deadline_ends_the_wait(deadlines_ms: list[int | None]) -> None:
    """The delay is longer than any test may take."""
    async with bench(max_queue_delay_us=10_000_000) as b:
        asked = []
        for place, deadline_ms in enumerate(deadlines_ms):
            at_ns = NO_DEADLINE if deadline_ms is None else b.clock() + deadline_ms * MS
            asked.append(b.ask(float(place), deadline_ns=at_ns))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not b.runtime.batches
        b.clock.advance(ms=59)
        for place, (y,) in enumerate(await asyncio.gather(*asked)):
            assert y[:, 0].tolist() == [2.0 * place]
        assert len(b.runtime.batches) == 1, "all went together"


@asynchronous
async def test_a_full_batch_waits_for_nobody() -> None:
    async with bench(max_batch_rows=2, max_queue_delay_us=10_000_000) as b:
        asked = [b.ask(1.0), b.ask(2.0)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert b.runtime.batches == [[1.0, 2.0]]
        await asyncio.gather(*asked)
