"""When a process trims its heap: after a burst, once, and never because it has simply grown."""

import mmap
import sys

import pytest

from fastserve.app.trimming import Trimming
from fastserve.monitoring.process import resident_bytes

MB = 2**20


class Process:
    """What a process holds, and how much of that a trim would free."""

    def __init__(self) -> None:
        self.held = 100 * MB
        self.free = 0
        self.trims = 0

    def trim(self) -> None:
        self.trims += 1
        self.held -= self.free
        self.free = 0


def trims(process: Process, trimming: Trimming, seconds: range) -> int:
    before = process.trims
    for now_s in seconds:
        if trimming.due(float(now_s)):
            trimming.trim()
    return process.trims - before


def test_what_a_burst_left_is_given_back_once_it_has_stayed_a_while() -> None:
    process = Process()
    trimming = Trimming(lambda: process.held, process.trim)
    assert trims(process, trimming, range(10)) == 0
    process.held, process.free = 340 * MB, 240 * MB
    assert trims(process, trimming, range(10, 15)) == 0
    assert trims(process, trimming, range(15, 16)) == 1
    assert trims(process, trimming, range(16, 60)) == 0
    assert process.held == 100 * MB


def test_what_counts_is_the_least_that_it_has_held() -> None:
    process = Process()
    trimming = Trimming(lambda: process.held, process.trim)
    process.held = 60 * MB
    assert trims(process, trimming, range(1)) == 0
    process.held = 95 * MB
    assert trims(process, trimming, range(1, 7)) == 1


def test_a_process_that_grows_and_grows_is_trimmed_now_and_then() -> None:
    process = Process()
    trimming = Trimming(lambda: process.held, process.trim)
    for now_s in range(18):
        process.held += 40 * MB
        trims(process, trimming, range(now_s, now_s + 1))
    assert process.trims == 3


def test_a_burst_that_is_over_in_time_is_none_of_its_business() -> None:
    process = Process()
    trimming = Trimming(lambda: process.held, process.trim)
    for start in range(0, 60, 6):
        process.held = 340 * MB
        assert trims(process, trimming, range(start, start + 4)) == 0
        process.held = 110 * MB
        assert trims(process, trimming, range(start + 4, start + 6)) == 0


def test_memory_that_is_in_use_costs_one_look() -> None:
    process = Process()
    trimming = Trimming(lambda: process.held, process.trim)
    process.held = 500 * MB
    assert trims(process, trimming, range(100)) == 1
    process.held = 531 * MB
    assert trims(process, trimming, range(100, 200)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_process_knows_what_it_holds() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 40 * MB) as memory:  # a bytearray might lie where others have been
        memory.write(b"x" * (40 * MB))
        assert resident_bytes() - before > 35 * MB
