"""How many cores this process really has: affinity and cgroup quota, which `os.cpu_count` does not know."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_SELF_CGROUP = Path("/proc/self/cgroup")


def available_cores(cgroup_root: Path = _CGROUP_ROOT, self_cgroup: Path = _SELF_CGROUP) -> int:
    """Count the cores this process may use: its affinity, cut to the tightest cgroup quota; at least 1."""
    cores = float(_affinity())
    for quota in _quotas(cgroup_root, self_cgroup):
        cores = min(cores, quota)
    # A quota of 2.5 cores is worth two threads at full speed: a third would be throttled most of the time.
    return max(1, math.floor(cores))


def threads_per_worker(workers: int, cores: int | None = None) -> int:
    """Share the cores out evenly over worker processes; every worker gets at least one thread."""
    return max(1, (available_cores() if cores is None else cores) // max(1, workers))


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        return os.cpu_count() or 1


def _quotas(root: Path, self_cgroup: Path) -> Iterator[float]:
    """Give every quota from this process's cgroup up to the root: a parent's limit holds for its children."""
    for controllers, path in _memberships(self_cgroup):
        if controllers == "":
            for mount in (root, root / "unified"):
                for directory in _upwards(mount, path):
                    yield from _v2(directory)
        elif "cpu" in controllers.split(","):
            for mount in (root / controllers, root / "cpu"):
                for directory in _upwards(mount, path):
                    yield from _v1(directory)


def _memberships(self_cgroup: Path) -> Iterator[tuple[str, str]]:
    """Read /proc/self/cgroup: lines of `id:controllers:path`, controllers empty for cgroup v2."""
    for line in _read(self_cgroup).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1], parts[2]


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Give the cgroup's directory and its parents; in a container the mount itself is often ours."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _v2(directory: Path) -> Iterator[float]:
    fields = _read(directory / "cpu.max").split()
    if len(fields) == 2 and fields[0] != "max":
        yield from _ratio(fields[0], fields[1])


def _v1(directory: Path) -> Iterator[float]:
    quota = _read(directory / "cpu.cfs_quota_us").strip()
    period = _read(directory / "cpu.cfs_period_us").strip()
    if quota and period and not quota.startswith("-"):
        yield from _ratio(quota, period)


def _ratio(quota: str, period: str) -> Iterator[float]:
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return
    if ratio > 0:
        yield ratio


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
