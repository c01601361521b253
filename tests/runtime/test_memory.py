"""Memory that is in use throughout may go to huge pages; nothing else is touched, and nothing in it changes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fastserve.runtime.memory import _dense, give_back, use_huge_pages

SMAPS = """\
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Size:               8192 kB
Rss:                8192 kB
7f1000000000-7f1000800000 rw-p 00000000 00:00 0
Rss:                 100 kB
7f2000000000-7f2000800000 r-xp 00000000 fe:00 77                         /usr/lib/libonnxruntime.so
Rss:                8192 kB
55e000000000-55e000400000 rw-p 00000000 00:00 0                          [heap]
Rss:                4000 kB
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0                          [stack]
Rss:                8192 kB
7f3000000000-7f3000001000 rw-p 00000000 00:00 0
Rss:                   4 kB
"""


def test_only_large_anonymous_mappings_without_holes_are_chosen() -> None:
    assert _dense(SMAPS) == [(0x7F0000000000, 8 << 20), (0x55E000000000, 4 << 20)]


def test_without_proc_nothing_happens(tmp_path: Path) -> None:
    assert use_huge_pages(tmp_path / "smaps") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="madvise and /proc are Linux's")
def test_what_is_moved_stays_the_same() -> None:
    data = np.arange(4_000_000, dtype=np.float64)
    assert use_huge_pages() >= 0
    give_back()
    np.testing.assert_array_equal(data, np.arange(4_000_000))
