"""The batch queue's bounds, splits and ring space by name, over the compiled queue and its twin alike."""

from typing import Any

import pytest

from fastserve_core.batching import NO_DEADLINE, BatchQueue
from tests.core.queue_calls import commit, counters, drain
from tests.oracle.queue_twin import TwinQueue


@pytest.fixture(params=[BatchQueue, TwinQueue], ids=["compiled", "twin"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_full_queue_refuses_and_changes_nothing(make: Any) -> None:
    queue = make(4, 16, 6)
    first = commit(queue, 4)
    assert commit(queue, 3) == -1
    assert queue.push(3, NO_DEADLINE, 0) == -1
    assert counters(queue) == (4, 1, 0)
    second = queue.commit(2, NO_DEADLINE, 0)  # the offer that was refused above still stands
    assert commit(queue, 1) == -1
    assert drain(queue) == [first, second]


def test_running_rows_do_not_count_as_waiting(make: Any) -> None:
    queue = make(4, 16, 4)
    commit(queue, 4)
    queue.take(0)
    assert commit(queue, 4) >= 0


def test_a_request_above_the_limit_is_let_in_alone(make: Any) -> None:
    queue = make(4, 4, 6)
    token = queue.push(50, NO_DEADLINE, 0)
    assert token >= 0
    assert queue.push(1, NO_DEADLINE, 0) == -1
    assert queue.cancel(token)
    assert queue.push(2**63 - 1, NO_DEADLINE, 0) >= 0
    assert queue.push(2**63 - 1, NO_DEADLINE, 0) == -1


def test_rows_that_are_given_up_as_a_batch_is_taken_are_room_at_once(make: Any) -> None:
    queue = make(4, 8, 64)
    for _ in range(2):
        commit(queue, 4, 10)
    assert queue.room() == 0
    assert len(queue.take(10).expired) == 2
    assert queue.room() == 8


def test_large_requests_are_split_and_keep_their_place(make: Any) -> None:
    queue = make(4, 16, 100)
    small, large, last = commit(queue, 1), commit(queue, 9), commit(queue, 2)
    batches = [queue.take(0) for _ in range(3)]
    assert batches[0].parts == [(small, 0, 1, 0), (large, 0, 3, 1)]
    assert batches[1].parts == [(large, 3, 4, 4)]
    assert batches[2].parts == [(large, 7, 2, 8), (last, 0, 2, 10)]
    assert [batch.start for batch in batches] == [0, 4, 8]
    assert [batch.last_parts for batch in batches] == [1, 0, 2]
    queue.finish(batches[0])
    # The end still takes a whole batch, and the four rows free at the start are no more than that.
    assert (queue.room(), queue.room_row) == (4, 12)
    queue.finish(batches[1])
    queue.finish(batches[2])
    assert (queue.room(), queue.room_row) == (16, 0)


def test_an_earlier_deadline_goes_between_the_parts_of_a_split_request(make: Any) -> None:
    queue = make(4, 16, 100)
    large = commit(queue, 6)
    first = queue.take(0)
    urgent = commit(queue, 1, 1000)
    assert queue.take(0).parts == [(urgent, 0, 1, 6), (large, 4, 2, 4)]
    queue.finish(first)


def test_the_tail_wraps_when_the_end_is_too_short_for_a_batch(make: Any) -> None:
    queue = make(4, 10, 100)
    commit(queue, 4)
    commit(queue, 4)
    first, second = queue.take(0), queue.take(0)
    assert (queue.room(), queue.room_row) == (2, 8)
    queue.finish(first)
    assert (queue.room(), queue.room_row) == (4, 0)
    third = commit(queue, 4)
    batch = queue.take(0)
    assert batch.parts == [(third, 0, 4, 0)]
    assert queue.room() == 0
    queue.finish(second)
    assert (queue.room(), queue.room_row) == (6, 4)  # the two rows skipped at the end are free again
    queue.finish(batch)
    assert (queue.room(), queue.room_row) == (10, 0)


def test_requests_around_the_end_of_the_ring_are_not_consecutive(make: Any) -> None:
    queue = make(4, 8, 100)
    _, _, at_end = (commit(queue, 2) for _ in range(3))
    queue.finish(queue.take(0))
    # The two rows left at the end are fewer than a batch, so the new request goes to row 0.
    at_start = commit(queue, 2)
    batch = queue.take(0)
    assert batch.parts == [(at_end, 0, 2, 4), (at_start, 0, 2, 0)]
    assert batch.start == -1


def test_an_empty_queue_goes_back_to_row_0(make: Any) -> None:
    queue = make(2, 64, 100)
    for _ in range(200):
        commit(queue)
        batch = queue.take(0)
        assert batch.start == 0
        queue.finish(batch)


def test_an_offer_stays_good_while_others_finish(make: Any) -> None:
    queue = make(4, 8, 100)
    commit(queue, 4)
    batch = queue.take(0)
    assert (queue.room(), queue.room_row) == (4, 4)
    queue.finish(batch)
    token = queue.commit(4, NO_DEADLINE, 0)
    assert queue.take(0).parts == [(token, 0, 4, 4)]


def test_an_offer_of_row_0_stays_good_while_all_others_finish(make: Any) -> None:
    queue = make(4, 10, 100)
    for _ in range(2):
        commit(queue, 4)
    batches = [queue.take(0) for _ in range(2)]
    queue.finish(batches[0])
    assert (queue.room(), queue.room_row) == (4, 0)
    queue.finish(batches[1])
    token = queue.commit(3, NO_DEADLINE, 0)
    assert (queue.room(), queue.room_row) == (7, 3)
    assert queue.take(0).parts == [(token, 0, 3, 0)]


def test_wrong_use_is_refused(make: Any) -> None:
    queue = make(4, 8, 100)
    for wrong in (0, -1, 1):
        with pytest.raises(ValueError, match=r"."):
            queue.commit(wrong, NO_DEADLINE, 0)  # no room was asked for
    assert queue.room() == 8
    with pytest.raises(ValueError, match=r"."):
        queue.commit(9, NO_DEADLINE, 0)
    queue.commit(1, NO_DEADLINE, 0)
    with pytest.raises(ValueError, match=r"."):
        queue.commit(1, NO_DEADLINE, 0)  # an offer is used once
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=r"."):
            queue.push(wrong, NO_DEADLINE, 0)
    assert counters(queue) == (1, 1, 0)
