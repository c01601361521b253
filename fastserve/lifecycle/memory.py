"""How much memory a load may take: what the machine, the container and the options leave."""

import os
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from fastserve.errors import FastserveError
from fastserve.registry import VersionRecord
from fastserve.registry.manifest import PROFILE_FILE

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_MIB = 2**20
_OVERHEAD = 1.2
_SMALL_BYTES = 64 * _MIB
_MAX_FILES = 1_000


class NotEnoughMemory(FastserveError):
    """A version does not fit beside what is loaded."""

    def __init__(self, need_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"it needs about {need_bytes / _MIB:,.0f} MiB of memory and {free_bytes / _MIB:,.0f} MiB are free"
        )
        self.need_bytes = need_bytes
        self.free_bytes = free_bytes


def free_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Memory that can be had without swapping, in bytes; None where neither Linux nor a cgroup tells."""
    found = [value for value in (_available(meminfo), _left_in_cgroup(cgroup)) if value is not None]
    return min(found, default=None)


def _available(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_cgroup(cgroup: Path) -> int | None:
    """What a container may still take (cgroup v2; its own root is mounted there)."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((cgroup / "memory.current").read_text())
        # Cached files are given back when memory is asked for.
        for line in (cgroup / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        return max(0, int(limit) - used)
    except (OSError, ValueError, IndexError):
        return None


class Room:
    """Which part of the memory is spoken for by loaded versions. Thread-safe.

    A version is taken to need what its files have and a fifth more: weights dominate where it matters.
    """

    def __init__(self, limit_bytes: int = 0, free: Callable[[], int | None] = free_bytes) -> None:
        self._limit_bytes = limit_bytes
        self._free = free
        self._taken_bytes = 0
        self._lock = threading.Lock()

    def take(self, record: VersionRecord) -> int:
        """Reserve memory for a version, in bytes of its files; NotEnoughMemory when it does not fit."""
        size = _size_bytes(record)
        need = int(size * _OVERHEAD)
        if not self._limit_bytes and need < _SMALL_BYTES:
            return size  # not worth a look; `give` only matters under a limit
        left = self._free()
        with self._lock:
            if self._limit_bytes:
                budget = self._limit_bytes - int(self._taken_bytes * _OVERHEAD)
                left = budget if left is None else min(left, budget)
            if left is not None and need > left:
                raise NotEnoughMemory(need, max(0, left))
            self._taken_bytes += size
        return size

    def keep(self, size_bytes: int) -> None:
        """Count what is there already, whether or not it fits."""
        with self._lock:
            self._taken_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Give back what `take` reserved."""
        with self._lock:
            self._taken_bytes = max(0, self._taken_bytes - size_bytes)


def _size_bytes(record: VersionRecord) -> int:
    if record.manifest is not None:
        return sum(file.bytes for name, file in record.manifest.files.items() if name != PROFILE_FILE)
    with os.scandir(record.path.parent) as entries:
        return sum(entry.stat().st_size for entry in islice(entries, _MAX_FILES) if entry.is_file())
