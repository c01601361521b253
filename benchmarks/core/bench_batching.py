"""The batch queue's cost per request, beside the cheapest thing in Python that could stand in for it.

Run with `pytest benchmarks/core/bench_batching.py --benchmark-only`; a line's time is for all its requests.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from fastserve_core.batching import NO_DEADLINE, BatchQueue

FAR_NS = 10**15
MIXED_NS = [FAR_NS, FAR_NS - 7, FAR_NS + 3, FAR_NS - 1]


def one_by_one() -> Callable[[], None]:
    """Room, commit, take and finish of a single row: an idle model's way."""
    queue = BatchQueue(1024, 65_536, 65_536)
    room, commit, take, finish = queue.room, queue.commit, queue.take, queue.finish

    def run() -> None:
        room()
        commit(1, NO_DEADLINE, 1000)
        if (batch := take(2000)) is not None and batch.parts:  # the parts are made when asked for
            finish(batch)

    return run


def batch_of(rows: int, deadlines_ns: list[int], row_ns: float = 0.0) -> Callable[[], None]:
    """`rows` requests of one row, taken as one batch; deadlines repeat."""
    queue = BatchQueue(rows, 65_536, 65_536)
    room, commit, take, finish = queue.room, queue.commit, queue.take, queue.finish
    deadlines = (deadlines_ns * rows)[:rows]

    def run() -> None:
        for deadline_ns in deadlines:
            room()
            commit(1, deadline_ns, 1000)
        if (batch := take(2000, row_ns)) is not None and batch.parts:
            finish(batch)

    return run


def cancelled(requests: int) -> Callable[[], None]:
    """Requests with falling deadlines, each cancelled again: the heap's worst case."""
    queue = BatchQueue(64, 65_536, 65_536)

    def run() -> None:
        tokens = []
        for i in range(requests):
            queue.room()
            tokens.append(queue.commit(1, FAR_NS - i, 1000))
        for token in tokens:
            queue.cancel(token)

    return run


def python_deque(rows: int) -> Callable[[], None]:
    """No deadlines, no bounds, no ring: tuples through a deque."""
    waiting: deque[tuple[int, int, int]] = deque()

    def run() -> None:
        for i in range(rows):
            waiting.append((i, 1, 1000))
        batch = []
        total = 0
        while waiting and total < rows:
            request = waiting.popleft()
            batch.append((request[0], 0, request[1], total))
            total += request[1]

    return run


CASES: dict[str, Callable[[], Callable[[], None]]] = {
    "1 request: room, commit, take, finish": one_by_one,
    "64 requests, no deadline": lambda: batch_of(64, [NO_DEADLINE]),
    "64 requests, equal deadlines, estimate": lambda: batch_of(64, [FAR_NS], 10.0),
    "64 requests, mixed deadlines": lambda: batch_of(64, [*MIXED_NS, NO_DEADLINE]),
    "1024 requests, no deadline": lambda: batch_of(1024, [NO_DEADLINE]),
    "64 requests, each cancelled": lambda: cancelled(64),
    "64 requests through a deque": lambda: python_deque(64),
}


@pytest.mark.parametrize("case", CASES)
def test_batch_queue(benchmark: Any, case: str) -> None:
    benchmark(CASES[case]())
