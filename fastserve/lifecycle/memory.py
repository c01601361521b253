"""How much memory a load may take: what the machine, the container and the options leave."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastserve.errors import FastserveError
from fastserve.lifecycle import directory
from fastserve.registry import VersionRecord
from fastserve.runtime.cgroups import MEMBERSHIPS, ROOT, groups, read

_MEMINFO = Path("/proc/meminfo")
_V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
_V2 = "memory.max", "memory.current", "inactive_file"
"""By version of cgroup: the limit, what is taken, and what of that is cached."""
_MIB = 2**20
_OVERHEAD = 1.2
_SMALL_BYTES = 64 * _MIB
_UNLIMITED = 2**63


class NotEnoughMemory(FastserveError):
    """A version does not fit beside what is loaded."""

    def __init__(self, need_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"it needs about {need_bytes / _MIB:,.0f} MiB of memory and {free_bytes / _MIB:,.0f} MiB are free"
        )
        self.need_bytes = need_bytes
        self.free_bytes = free_bytes


def free_bytes(meminfo: Path = _MEMINFO, root: Path = ROOT, memberships: Path = MEMBERSHIPS) -> int | None:
    """Memory that can be had without swapping, in bytes; None where neither Linux nor a cgroup tells."""
    found = [_available(meminfo), *(_left(*group) for group in groups("memory", root, memberships))]
    return min((value for value in found if value is not None), default=None)


def _available(meminfo: Path) -> int | None:
    try:
        return int(_field(meminfo, "MemAvailable:")) * 1024
    except ValueError:
        return None


def _left(version: int, group: Path) -> int | None:
    """What a cgroup may still take; None where it has no limit."""
    limit, usage, cached = _V2 if version == 2 else _V1
    try:
        used = int(read(group / usage))
        # Cached files are given back when memory is asked for.
        return int(read(group / limit)) - used + int(_field(group / "memory.stat", cached) or 0)
    except ValueError:
        return None


def _field(path: Path, name: str) -> str:
    """Give what stands behind a name, at the beginning of a line; empty where nothing does."""
    lines = (line.split() for line in read(path).splitlines())
    return next((words[1] for words in lines if len(words) > 1 and words[0] == name), "")


class Room:
    """Which part of the memory is spoken for by versions that are loaded, or on their way. Thread-safe.

    A version is taken to need what its files have and a fifth more: weights dominate where it matters.
    """

    def __init__(self, limit_bytes: int = 0, free: Callable[[], int | None] = free_bytes) -> None:
        self._limit_bytes = limit_bytes or _UNLIMITED
        self._free = free
        self._taken_bytes = 0
        self._loading_bytes = 0
        """What the loads under way need in all, whether or not they have taken it yet."""
        self._left_bytes = _UNLIMITED
        """What was free when they began, less what they need."""
        self._lock = threading.Lock()

    @contextmanager
    def loading(self, record: VersionRecord) -> Iterator[int]:
        """Reserve memory for a version, in bytes of its files; a load that fails gives it back.

        Raises
        ------
        NotEnoughMemory
            It does not fit.
        """
        size = _size_bytes(record)
        if self._limit_bytes == _UNLIMITED and _need_bytes(size) < _SMALL_BYTES:
            yield size  # not worth a look; `give` only matters under a limit
            return
        self._take(size)
        try:
            yield size
        except BaseException:
            self.give(size)
            raise
        finally:
            with self._lock:
                self._loading_bytes -= _need_bytes(size)

    def _take(self, size_bytes: int) -> None:
        need = _need_bytes(size_bytes)
        with self._lock:
            free = self._free()
            free = _UNLIMITED if free is None else free
            # Both are at most what is really left: the first still subtracts what ended loads did not take,
            # the second subtracts twice what those under way have taken by now.
            self._left_bytes = max(self._left_bytes if self._loading_bytes else 0, free - self._loading_bytes)
            left = min(free, self._left_bytes, self._limit_bytes - _need_bytes(self._taken_bytes))
            if need > left:
                raise NotEnoughMemory(need, max(0, left))
            self._loading_bytes += need
            self._left_bytes -= need
            self._taken_bytes += size_bytes

    def keep(self, size_bytes: int) -> None:
        """Count what is there already, whether or not it fits."""
        with self._lock:
            self._taken_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Give back what a version had."""
        with self._lock:
            self._left_bytes += _need_bytes(size_bytes)
            self._taken_bytes -= size_bytes


def _need_bytes(size_bytes: int) -> int:
    return int(size_bytes * _OVERHEAD)


def _size_bytes(record: VersionRecord) -> int:
    if record.manifest is not None:
        return sum(file.bytes for file in record.manifest.files.values())
    return directory.size_bytes(record.path.parent)
