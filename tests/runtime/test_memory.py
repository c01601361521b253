"""What is free goes back; what is in use throughout may go to huge pages, and nothing in it changes."""

import os
import sys
from io import BytesIO
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap
from pathlib import Path

import numpy as np
import pytest

from fastserve.runtime.libc import function
from fastserve.runtime.memory import _dense, give_back, use_huge_pages
from fastserve.types import Array

_BYTES = 32 * 2**20
_HUGE_BYTES = 2 * 2**20

linux = pytest.mark.skipif(sys.platform != "linux", reason="madvise and /proc are Linux's")


def fresh() -> Array:
    """Memory that nobody has used before, unlike what an allocator may have kept."""
    return np.frombuffer(mmap(-1, _BYTES, MAP_PRIVATE | MAP_ANONYMOUS), np.uint8)


def chosen(array: Array) -> int:
    """Blocks of an array that would go to huge pages."""
    start = array.ctypes.data
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        found = list(_dense(Path("/proc/self/maps").read_text(), pagemap))
    return sum(start <= block < start + array.nbytes for block in found)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGESIZE


@linux
def test_only_what_is_in_memory_is_chosen() -> None:
    array = fresh()
    assert chosen(array) == 0
    array[: _BYTES // 2] = 1
    assert _BYTES // 2 // _HUGE_BYTES - 1 <= chosen(array) <= _BYTES // 2 // _HUGE_BYTES


def test_blocks_lie_within_anonymous_memory_on_their_boundaries() -> None:
    maps = (
        "300000-900000 rw-p 00000000 00:00 0 \n"
        "a00000-c00000 rw-p 00000000 00:00 0                    [heap]\n"
        "c00000-e00000 rw-p 00000000 fe:01 42                   /usr/lib/libc.so.6\n"
        "e00000-1000000 r--p 00000000 00:00 0 \n"
    )
    own = np.full(0x1000000 // PAGESIZE, 1 << 63 | 1 << 56, np.uint64)
    assert list(_dense(maps, BytesIO(own.tobytes()))) == [0x400000, 0x600000, 0xA00000]


@linux
def test_what_a_process_shares_with_the_one_it_was_forked_from_stays_shared() -> None:
    array = fresh()
    array[:] = 1
    if (pid := os.fork()) == 0:
        os._exit(min(chosen(array), 255))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert chosen(array) > 0, "it is this process's own again"


@linux
@pytest.mark.skipif(function("malloc_trim") is None, reason="it takes glibc")
def test_free_pages_among_those_in_use_are_given_back() -> None:
    blocks = [b"x" * size for size in [4096] * 16_384]
    _kept = blocks[::64]  # only what lies above all that is in use goes back by itself
    del blocks
    before = resident_bytes()
    give_back()
    assert before - resident_bytes() > 32 * 2**20


def test_without_proc_nothing_happens(tmp_path: Path) -> None:
    assert use_huge_pages(tmp_path) == 0


@linux
def test_what_is_moved_stays_the_same() -> None:
    data = np.arange(4_000_000, dtype=np.float64)
    assert use_huge_pages() >= 0
    give_back()
    np.testing.assert_array_equal(data, np.arange(4_000_000))
