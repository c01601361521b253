"""How many cores this process really has: affinity and cgroup quota, which `os.cpu_count` does not know."""

import math
import os
from pathlib import Path

from fastserve.runtime.cgroups import MEMBERSHIPS, ROOT, groups, read


def available_cores(root: Path = ROOT, memberships: Path = MEMBERSHIPS) -> int:
    """Count the cores this process may use: its affinity, cut to the tightest cgroup quota; at least 1."""
    quotas = (_quota(*group) for group in groups("cpu", root, memberships))
    cores = min([_affinity(), *quotas])
    # A quota of 2.5 cores is worth two threads at full speed: a third would be throttled most of the time.
    return max(1, math.floor(cores))


def threads_per_worker(workers: int, cores: int) -> int:
    """Share the cores out evenly over worker processes; every worker gets at least one thread."""
    return max(1, cores // workers)


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        return os.cpu_count() or 1


def _quota(version: int, directory: Path) -> float:
    """Cores that a cgroup gives; infinitely many without a limit."""
    if version == 2:
        fields = read(directory / "cpu.max").split()
    else:
        fields = [read(directory / "cpu.cfs_quota_us"), read(directory / "cpu.cfs_period_us")]
    try:
        quota, period = map(int, fields)
    except ValueError:  # no such file, or no limit: "max"
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
