"""What the allocator does not do by itself: give free pages back, and put weights on huge pages."""

import ctypes
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from mmap import PAGESIZE
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastserve.runtime.libc import function

log = logging.getLogger("fastserve.runtime")

_MADV_COLLAPSE = 25
"""Linux 6.1; see madvise(2). Elsewhere the call fails and nothing changes."""
_HUGE_BYTES = 2 * 2**20
_DENSE = 0.9
_ENTRY_BYTES = 8
_OWN = np.uint64(1 << 63 | 1 << 56)
"""Of a page in /proc/PID/pagemap: it is in memory, and nobody else has it."""
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *(\[heap\])?$")


def give_back() -> None:
    """Return free heap pages to the system where the C library can (glibc); takes about a millisecond.

    Measured: 10 MiB of 27 after one 1024-row batch of a 256-1024-1024-1024-10 MLP.
    """
    trim = function("malloc_trim")
    if trim is not None:
        trim(0)


def use_huge_pages(process: Path = Path("/proc/self")) -> int:
    """Move anonymous memory that is in use onto huge pages; bytes moved, 0 where Linux does not.

    A model's weights are read from end to end by every run: with pages of 4 KiB a run of a 10 MB model
    misses the TLB thousands of times. Measured: 5 to 15 % more rows/s of a 256-1024-1024-1024-10 MLP.
    Left alone is where much is not in memory, because a huge page would fill it, or is shared with the
    process that this one was forked from, because a huge page would be a copy.
    """
    madvise = function("madvise")
    moved = 0
    with suppress(OSError), (process / "pagemap").open("rb", buffering=0) as pagemap:
        for block in _dense((process / "maps").read_text(), pagemap) if madvise is not None else ():
            if madvise(ctypes.c_void_p(block), ctypes.c_size_t(_HUGE_BYTES), _MADV_COLLAPSE) == 0:
                moved += _HUGE_BYTES
    log.debug("%d MiB of weights and buffers are on huge pages", moved >> 20)
    return moved


def _dense(maps: str, pagemap: BinaryIO) -> Iterator[int]:
    """Addresses of blocks as large as a huge page that are this process's own nearly throughout."""
    pages = _HUGE_BYTES // PAGESIZE
    for line in maps.splitlines():
        if mapping := _MAPPING.match(line):
            start, end = int(mapping[1], 16), int(mapping[2], 16)
            for block in range(-(-start // _HUGE_BYTES) * _HUGE_BYTES, end - _HUGE_BYTES + 1, _HUGE_BYTES):
                pagemap.seek(block // PAGESIZE * _ENTRY_BYTES)
                entries = np.frombuffer(pagemap.read(pages * _ENTRY_BYTES), np.uint64)
                if np.count_nonzero((entries & _OWN) == _OWN) >= _DENSE * pages:
                    yield block
