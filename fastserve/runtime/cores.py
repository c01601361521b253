"""How many cores this process really has: affinity and cgroup quota, which `os.cpu_count` does not know."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from fastserve.runtime.cgroups import MEMBERSHIPS, ROOT, groups, read


def available_cores(root: Path = ROOT, memberships: Path = MEMBERSHIPS) -> int:
    """Count the cores this process may use: its affinity, cut to the tightest cgroup quota; at least 1."""
    cores = float(_affinity())
    for quota in _quotas(root, memberships):
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


def _quotas(root: Path, memberships: Path) -> Iterator[float]:
    for version, directory in groups("cpu", root, memberships):
        yield from _v2(directory) if version == 2 else _v1(directory)


def _v2(directory: Path) -> Iterator[float]:
    fields = read(directory / "cpu.max").split()
    if len(fields) == 2 and fields[0] != "max":
        yield from _ratio(fields[0], fields[1])


def _v1(directory: Path) -> Iterator[float]:
    quota = read(directory / "cpu.cfs_quota_us").strip()
    period = read(directory / "cpu.cfs_period_us").strip()
    if quota and period and not quota.startswith("-"):
        yield from _ratio(quota, period)


def _ratio(quota: str, period: str) -> Iterator[float]:
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return
    if ratio > 0:
        yield ratio
