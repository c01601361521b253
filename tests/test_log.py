"""What keeps a log short."""

from fastserve.log import Seldom


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_text_comes_once_a_period_and_then_says_how_often() -> None:
    clock = Clock()
    seldom = Seldom(60.0, 10, clock)
    assert [seldom.admit("no") for _ in range(1_235)] == ["no"] + [None] * 1_234
    clock.now_s += 59.9
    assert seldom.admit("no") is None
    clock.now_s += 0.2
    assert seldom.admit("no") == "no (and 1,235 times more before)"
    clock.now_s += 60
    assert seldom.admit("no") == "no"


def test_other_texts_come_through_up_to_a_bound() -> None:
    clock = Clock()
    seldom = Seldom(60.0, 10, clock)
    came = [text for number in range(10_000) if (text := seldom.admit(f"row {number}")) is not None]
    assert came == [f"row {number}" for number in range(10)]
    clock.now_s += 60
    assert seldom.admit("row 9999") == "row 9999"
    clock.now_s += 1_000_000
    assert seldom.admit("row 1") == "row 1"
