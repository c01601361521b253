"""The batch queue by name: one test per promise, over the compiled queue and over its plain twin alike."""

from typing import Any

import pytest

from fastserve_core.batching import NO_DEADLINE, Batch, BatchQueue
from tests.core.queue_calls import commit, counters, drain, tokens
from tests.oracle.queue_twin import TwinQueue

SMALLEST = -(2**63)


@pytest.fixture(params=[BatchQueue, TwinQueue], ids=["compiled", "twin"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


# -- the plain way through ----------------------------------------------------------------------------------


def test_a_request_runs_where_it_was_written(make: Any) -> None:
    queue = make(8, 16, 100)
    assert queue.room() == 16
    assert queue.room_row == 0
    token = queue.commit(3, NO_DEADLINE, 5)
    assert token >= 0
    assert counters(queue) == (3, 1, 0)
    batch = queue.take(12)
    assert batch.parts == [(token, 0, 3, 0)]
    assert (batch.rows, batch.start, batch.queue_ns, batch.last_parts, batch.expired) == (3, 0, 7, 1, [])
    assert counters(queue) == (0, 0, 3)
    queue.finish(batch)
    assert counters(queue) == (0, 0, 0)
    assert queue.take(12) is None


def test_arrival_order_is_one_consecutive_range(make: Any) -> None:
    queue = make(8, 16, 100)
    arrived = [commit(queue, rows, now_ns=rows) for rows in (3, 1, 2)]
    batch = queue.take(10)
    assert batch.parts == [(arrived[0], 0, 3, 0), (arrived[1], 0, 1, 3), (arrived[2], 0, 2, 4)]
    assert (batch.start, batch.rows, batch.last_parts, batch.queue_ns) == (0, 6, 3, 7 + 9 + 8)


def test_earliest_deadline_first_and_ties_by_arrival(make: Any) -> None:
    queue = make(8, 16, 100)
    deadlines = [NO_DEADLINE, 50, 90, 20, 50, 20, NO_DEADLINE, 90]
    arrived = [commit(queue, 1, deadline) for deadline in deadlines]
    batch = queue.take(0)
    assert [arrived.index(token) for token in tokens(batch)] == [3, 5, 1, 4, 2, 7, 0, 6]
    assert batch.start == -1


def test_rows_are_consecutive_only_if_those_of_every_part_are(make: Any) -> None:
    queue = make(4, 16, 100)
    arrived = [commit(queue, rows, deadline) for rows, deadline in ((2, 10), (1, 40), (1, 30), (1, 20))]
    batch = queue.take(0)
    assert batch.parts == [(arrived[0], 0, 2, 0), (arrived[3], 0, 1, 4), (arrived[2], 0, 1, 3)]
    assert batch.start == -1


def test_a_recycled_place_in_the_heap_keeps_its_own_deadline(make: Any) -> None:
    queue = make(1, 8, 100)
    last = commit(queue, 1, 1000)
    first, second, third, fourth = (commit(queue, 1, deadline) for deadline in (10, 20, 30, 40))
    assert queue.cancel(second)
    late = commit(queue, 1, 35)
    assert drain(queue) == [first, third, late, fourth, last]


def test_deadlines_keep_their_order_when_more_than_half_of_the_heap_is_cancelled(make: Any) -> None:
    queue = make(1, 12, 100)
    arrived = {at: commit(queue, 1, at) for at in (1000, 1, 10, 2, 11, 12, 3, 4, 13, 14, 15, 16)}
    assert all(queue.cancel(arrived.pop(at)) for at in (2, 12, 13, 14, 15, 16))
    assert drain(queue) == [arrived[at] for at in sorted(arrived)]


def test_a_request_that_does_not_fit_waits_and_nobody_overtakes_it(make: Any) -> None:
    queue = make(8, 32, 100)
    first, second, third = commit(queue, 5), commit(queue, 4), commit(queue, 1)
    assert tokens(queue.take(0)) == [first]
    assert tokens(queue.take(0)) == [second, third]


def test_rows_outside_the_ring_have_no_place(make: Any) -> None:
    queue = make(8, 8, 100)
    inside, outside = commit(queue, 2), queue.push(3, NO_DEADLINE, 0)
    batch = queue.take(0)
    assert batch.parts == [(inside, 0, 2, 0), (outside, 0, 3, -1)]
    assert batch.start == -1


def test_at_most_so_many_requests_in_a_batch(make: Any) -> None:
    queue = make(8, 8, 100, 1)
    assert queue.max_batch_requests == 1
    arrived = [commit(queue) for _ in range(3)]
    batches = [queue.take(0) for _ in range(3)]
    assert [tokens(batch) for batch in batches] == [[token] for token in arrived]


def test_batches_in_flight_finish_in_any_order(make: Any) -> None:
    queue = make(4, 12, 100)
    for _ in range(3):
        commit(queue, 4)
    batches = [queue.take(0) for _ in range(3)]
    assert queue.room() == 0
    queue.finish(batches[1])
    assert queue.room() == 0  # freed in ring order
    queue.finish(batches[0])
    assert (queue.room(), queue.room_row) == (8, 0)
    queue.finish(batches[2])
    assert (queue.room(), queue.room_row) == (12, 0)


def test_a_batch_finishes_once_and_only_at_its_own_queue(make: Any) -> None:
    queue, other = make(4, 4, 9), make(4, 4, 9)
    commit(queue)
    batch = queue.take(0)
    with pytest.raises(ValueError, match=r"."):
        other.finish(batch)
    queue.finish(batch)
    with pytest.raises(ValueError, match=r"."):
        queue.finish(batch)
    assert counters(queue) == (0, 0, 0)


# -- cancel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victims", [[0], [1], [2], [3], [0, 3], [0, 1, 2, 3], [3, 2, 1, 0]])
@pytest.mark.parametrize("deadlines", [[NO_DEADLINE] * 4, [10, 20, 30, 40], [40, 30, 20, 10]])
def test_cancel_while_waiting_spares_others(make: Any, victims: list[int], deadlines: list[int]) -> None:
    queue = make(8, 8, 100)
    arrived = [commit(queue, 2, deadline) for deadline in deadlines]
    assert all(queue.cancel(arrived[victim]) for victim in victims)
    assert not any(queue.cancel(arrived[victim]) for victim in victims)
    left = sorted((i for i in range(4) if i not in victims), key=lambda i: (deadlines[i], i))
    assert queue.waiting_rows == 2 * len(left)
    assert drain(queue) == [arrived[i] for i in left]
    assert counters(queue) == (0, 0, 0)
    assert (queue.room(), queue.room_row) == (8, 0)


@pytest.mark.parametrize("victims", [[0], [1], [2], [0, 1, 2]])
def test_cancel_while_running_changes_nothing(make: Any, victims: list[int]) -> None:
    queue = make(8, 8, 100)
    arrived = [commit(queue, 2) for _ in range(3)]
    batch = queue.take(0)
    assert not any(queue.cancel(arrived[victim]) for victim in victims)
    assert counters(queue) == (0, 0, 6)
    assert queue.room() == 2
    queue.finish(batch)
    assert (queue.room(), queue.room_row) == (8, 0)


def test_cancel_of_a_split_request_lets_its_running_part_go_on(make: Any) -> None:
    queue = make(4, 10, 100)
    token = commit(queue, 10)
    batch = queue.take(0)
    assert queue.cancel(token)
    assert not queue.cancel(token)
    assert counters(queue) == (0, 0, 4)
    assert queue.room() == 0  # the rows at the head still run
    assert queue.take(0) is None
    queue.finish(batch)
    assert (queue.room(), queue.room_row) == (10, 0)


def test_stale_and_made_up_tokens(make: Any) -> None:
    queue = make(4, 4, 100)
    stale = commit(queue)
    drain(queue)
    token = commit(queue)
    assert token != stale
    for unknown in (stale, -1, token + 1, token + 2**24, 2**63 - 1, SMALLEST):
        assert not queue.cancel(unknown)
    assert queue.cancel(token)


# -- deadlines ----------------------------------------------------------------------------------------------


def test_a_passed_deadline_never_runs(make: Any) -> None:
    queue = make(8, 8, 100)
    arrived = [commit(queue, 1, deadline) for deadline in (10, 11, 9, NO_DEADLINE)]
    batch = queue.take(10)
    assert tokens(batch) == [arrived[1], arrived[3]]
    assert batch.expired == [arrived[2], arrived[0]]
    assert not queue.cancel(arrived[0])
    queue.finish(batch)
    assert queue.room() == 8


def test_a_batch_of_nothing_but_expired_requests(make: Any) -> None:
    queue = make(8, 8, 100)
    token = commit(queue, 2, 10)
    batch = queue.take(10)
    assert (batch.parts, batch.rows, batch.start, batch.last_parts) == ([], 0, -1, 0)
    assert batch.expired == [token]
    queue.finish(batch)
    assert queue.take(10) is None
    assert (queue.room(), queue.room_row) == (8, 0)


def test_expire_takes_out_what_has_passed_and_no_more(make: Any) -> None:
    queue = make(4, 16, 100)
    arrived = [commit(queue, 1, deadline) for deadline in (30, 10, 20, NO_DEADLINE, 10)]
    assert queue.next_deadline_ns == 10
    assert queue.expire(9) == []
    assert queue.expire(20) == [arrived[1], arrived[4], arrived[2]]
    assert queue.next_deadline_ns == 30
    assert queue.expire(NO_DEADLINE) == [arrived[0]]
    assert queue.next_deadline_ns == NO_DEADLINE
    assert drain(queue) == [arrived[3]]


def test_expire_of_the_rest_of_a_split_request(make: Any) -> None:
    queue = make(4, 4, 100)
    token = queue.push(6, 10, 0)
    batch = queue.take(0)
    assert queue.expire(10) == [token]
    assert counters(queue) == (0, 0, 4)
    queue.finish(batch)


def test_predicted_misses_are_dropped_before_they_run(make: Any) -> None:
    queue = make(4, 32, 100)
    late, just, large = queue.push(2, 129, 0), queue.push(2, 130, 0), queue.push(100 - 4, 1300, 0)
    batch = queue.take(100, row_ns=10.0, base_ns=10.0)  # 2 rows: 30 ns, 4 rows: 50 ns
    assert batch.expired == [late]
    assert tokens(batch) == [just]
    # 24 runs of 4 rows take 1200 ns: all that is left of a request counts, not its next run only.
    assert tokens(queue.take(100, row_ns=10.0, base_ns=10.0)) == [large]
    assert queue.take(151, row_ns=10.0, base_ns=10.0).expired == [large]


def test_a_large_request_that_cannot_be_finished_is_not_begun(make: Any) -> None:
    queue = make(4, 32, 100)
    late = queue.push(96, 1299, 0)
    assert queue.take(100, row_ns=10.0, base_ns=10.0).expired == [late]


def test_a_fraction_of_a_nanosecond_too_late_is_too_late(make: Any) -> None:
    queue = make(4, 8, 100)
    late, just = commit(queue, 1, 103), commit(queue, 1, 104)
    batch = queue.take(100, row_ns=0.75, base_ns=2.5)
    assert (batch.expired, tokens(batch)) == ([late], [just])


def test_a_batch_stops_where_it_would_miss_its_earliest_deadline(make: Any) -> None:
    queue = make(8, 8, 100)
    arrived = [commit(queue, 2, deadline) for deadline in (50, 1000, 1000)]
    assert tokens(queue.take(0, row_ns=10.0, base_ns=10.0)) == arrived[:2]
    assert tokens(queue.take(0, row_ns=10.0, base_ns=10.0)) == arrived[2:]


@pytest.mark.parametrize("now_ns", [SMALLEST, -1, 0, NO_DEADLINE - 1, NO_DEADLINE])
@pytest.mark.parametrize("base_ns", [0.0, 1e18, 1e300, float("inf"), float("nan"), -1e300])
def test_no_deadline_survives_the_ends_of_the_clock(make: Any, now_ns: int, base_ns: float) -> None:
    queue = make(4, 4, 100)
    arrived = [commit(queue, 1, NO_DEADLINE, now_ns) for _ in range(2)]
    assert queue.expire(now_ns) == []
    batch = queue.take(now_ns, 1.0, base_ns)
    assert (tokens(batch), batch.expired, batch.queue_ns) == (arrived, [], 0)


@pytest.mark.parametrize("base_ns", [float("nan"), -5.0, -1e300])
def test_an_estimate_that_is_no_time_drops_nobody(make: Any, base_ns: float) -> None:
    queue = make(4, 4, 100)
    arrived = [commit(queue, 1, 10) for _ in range(2)]
    batch = queue.take(9, 1.0, base_ns)
    assert (tokens(batch), batch.expired) == (arrived, [])


def test_a_clock_that_goes_back_makes_no_time(make: Any) -> None:
    queue = make(4, 4, 100)
    commit(queue, 1, now_ns=9)
    commit(queue, 1, now_ns=2)
    assert queue.take(5).queue_ns == 3


def test_extreme_times_do_not_overflow(make: Any) -> None:
    queue = make(4, 8, 100)
    almost = NO_DEADLINE - 1
    arrived = [commit(queue, 1, almost, SMALLEST), commit(queue, 1, almost, SMALLEST)]
    assert queue.oldest_arrival_ns == SMALLEST
    assert tokens(queue.take(SMALLEST, 0.0, 1e19)) == arrived  # the slack is 2^64 - 2 ns
    assert queue.take(0) is None
    token = commit(queue, 1, almost, SMALLEST)
    assert queue.take(SMALLEST, 0.0, 2e19).expired == [token]
    for _ in range(2):
        commit(queue, 1, NO_DEADLINE, SMALLEST)
    assert queue.take(NO_DEADLINE).queue_ns == NO_DEADLINE
    token = commit(queue, 1, SMALLEST, 0)
    assert queue.expire(SMALLEST) == [token]


def test_oldest_arrival_is_not_the_earliest_deadline(make: Any) -> None:
    queue = make(1, 8, 100)
    assert queue.oldest_arrival_ns == NO_DEADLINE
    for now_ns, deadline in enumerate((500, NO_DEADLINE, 400, 300, 600)):
        commit(queue, 1, deadline, now_ns)
    seen = []
    while queue.take(10) is not None:
        seen.append(queue.oldest_arrival_ns)
    assert seen == [0, 0, 1, 1, NO_DEADLINE]


# -- what only the compiled queue promises ------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(0, 4, 4), (4, 3, 4), (4, 4, 0), (4, 4, 4, -1)])
def test_impossible_sizes(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        BatchQueue(*sizes)


@pytest.mark.parametrize("kept_deadline_ns", [1, 10**9])
def test_memory_follows_the_live_requests(kept_deadline_ns: int) -> None:
    """Cancelled requests lie below the kept ones in the heap, or above them: neither piles up."""
    queue = BatchQueue(8, 8, 10_000)
    kept = [queue.push(1, 2 * 10**9, 0), *(queue.push(1, kept_deadline_ns, 0) for _ in range(9))]
    for round_ in range(2_000):
        assert queue.cancel(queue.push(1, 10**6 - round_, 0))
        assert queue.heap_entries <= 2 * 9
    assert queue.slot_count == 11
    assert all(queue.cancel(token) for token in kept)
    assert queue.heap_entries == 0


def test_rising_deadlines_never_touch_the_heap() -> None:
    queue = BatchQueue(64, 64, 1000)
    for now_ns in range(64):
        commit(queue, 1, now_ns // 4 + 1000 if now_ns % 2 else NO_DEADLINE, now_ns)
    assert queue.heap_entries == 0


def test_a_batch_outlives_its_queue() -> None:
    queue = BatchQueue(4, 4, 4)
    commit(queue)
    batch = queue.take(0)
    del queue
    assert isinstance(batch, Batch)
    assert batch.rows == 1
