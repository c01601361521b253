"""What the batch queue's tests do again and again, with either implementation."""

from typing import Any

from fastserve_core.batching import NO_DEADLINE


def commit(queue: Any, rows: int = 1, deadline_ns: int = NO_DEADLINE, now_ns: int = 0) -> int:
    assert queue.room() >= rows
    token: int = queue.commit(rows, deadline_ns, now_ns)
    return token


def tokens(batch: Any) -> list[int]:
    return [part[0] for part in batch.parts]


def drain(queue: Any, now_ns: int = 0) -> list[int]:
    order = []
    while (batch := queue.take(now_ns)) is not None:
        order += tokens(batch)
        queue.finish(batch)
    return order


def counters(queue: Any) -> tuple[int, int, int]:
    return queue.waiting_rows, queue.waiting_requests, queue.running_rows
