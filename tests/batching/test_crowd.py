"""When a batch that could run waits one more turn of the loop."""

from fastserve.batching.crowd import Crowd


def turns(*waiting_rows: int) -> list[bool]:
    crowd = Crowd()
    return [crowd.grows(rows, 64) for rows in waiting_rows]


def test_a_few_rows_never_wait() -> None:
    assert turns(1, 2, 3, 3) == [False] * 4
    assert turns(4) == [True]


def test_rows_wait_while_more_come_and_for_three_turns_at_most() -> None:
    assert turns(8, 8, 8) == [True, False, True]
    assert turns(8, 9, 10, 11, 12) == [True, True, True, False, True]


def test_a_full_batch_waits_for_nobody() -> None:
    assert turns(63, 64, 65) == [True, False, False]
