"""A batcher over a puppet runtime, with everything around it that a test wants to touch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, ParamSpec

from fastserve.batching import Batcher, BatchingOptions, LatencyModel, Target
from fastserve.clock import ManualClock
from fastserve.types import Array, DataType
from fastserve_core.batching import NO_DEADLINE
from tests.batching.puppet import PuppetRuntime, rows

P = ParamSpec("P")
INLINE: dict[str, Any] = {"inline_max_us": 100_000}
THREADED: dict[str, Any] = {"inline_max_us": 0}


class Bench:
    """A batcher with everything around it that a test wants to touch."""

    def __init__(self, runtime: PuppetRuntime, batcher: Batcher, clock: ManualClock) -> None:
        self.runtime = runtime
        self.batcher = batcher
        self.clock = clock

    def ask(self, *values: float, deadline_ns: int = NO_DEADLINE) -> "asyncio.Task[list[Array]]":
        request = rows(*values)
        return asyncio.ensure_future(self.batcher.infer(request, len(values), deadline_ns))

    async def busy(self) -> "asyncio.Task[list[Array]]":
        """Keep the runtime busy with one request until `free`."""
        self.runtime.gate.clear()
        self.runtime.entered.clear()
        first = self.ask(1000.0)
        await asyncio.sleep(0)
        await asyncio.to_thread(self.runtime.entered.wait, 20)
        return first

    def free(self) -> None:
        self.runtime.gate.set()

    async def quiet(self) -> None:
        """Until nothing waits and nothing runs."""
        while not self.batcher.idle:
            await asyncio.sleep(0)


@asynccontextmanager
async def bench(
    runtime: PuppetRuntime | None = None,
    max_batch_rows: int = 8,
    latency: LatencyModel | None = None,
    **options: Any,
) -> AsyncIterator[Bench]:
    runtime = runtime or PuppetRuntime()
    clock = ManualClock(3_600_000_000_000)  # a system that is up for an hour
    with ThreadPoolExecutor(1) as executor:
        target = Target(
            "m",
            "1",
            runtime,
            [(DataType.FP32, (2,))],
            max_batch_rows,
            latency or LatencyModel(1_000.0, 1_000.0),
        )
        settings = BatchingOptions(**{"max_queue_rows": 64, **INLINE, **options})
        yield Bench(runtime, Batcher(target, settings, asyncio.get_running_loop(), executor, clock), clock)


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on an event loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run
