"""How long a run is expected to take, and what experience changes about it."""

import pytest

from fastserve.batching import LatencyModel


def test_a_line_through_the_warm_up() -> None:
    line = LatencyModel(10.0, 1_000.0)
    assert line.estimate_ns(5) == 1_050.0
    assert line.refusal_line() == (10.0, 1_000.0)
    assert LatencyModel(-1.0, -1.0).estimate_ns(5) == 0.0


def test_runs_move_the_whole_line_a_little() -> None:
    line = LatencyModel(10.0, 1_000.0)
    line.observe(100, 4_000)  # twice as long as expected
    assert line.estimate_ns(0) == pytest.approx(1_050.0)
    assert line.refusal_line() == pytest.approx((10.5, 1_050.0))
    for _ in range(200):
        line.observe(100, 4_000)
    assert line.estimate_ns(100) == pytest.approx(4_000.0, rel=1e-3)


def test_a_stall_counts_as_four_times_what_was_expected() -> None:
    line = LatencyModel(0.0, 1_000.0)
    line.observe(1, 10**12)
    assert line.estimate_ns(1) == pytest.approx(1_150.0)
    line.observe(1, 10**12)
    assert line.estimate_ns(1) == pytest.approx(1_150.0 * 1.15)


def test_a_line_that_expects_nothing_learns_nothing() -> None:
    line = LatencyModel(0.0, 0.0)
    line.observe(1, 1_000)
    assert line.estimate_ns(1) == 0.0


def test_refusals_wear_the_line_off_and_runs_restore_it() -> None:
    line = LatencyModel(10.0, 1_000.0)
    line.relieve()
    line.relieve()
    assert line.refusal_line() == pytest.approx((8.1, 810.0))
    assert line.estimate_ns(0) == 1_000.0, "whether a run is short has nothing to do with it"
    line.observe(0, 1_000)
    assert line.refusal_line() == pytest.approx((8.505, 850.5))
    for _ in range(10):
        line.observe(0, 1_000)
    assert line.refusal_line() == pytest.approx((10.0, 1_000.0))
